"""``medpref train``: one training stage alone, in this process."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpora.worlds import open_world
from foundation.errors import UserError
from foundation.parsing import Parser
from foundation.progress import TrainingProgress
from foundation.reporting import Reporter
from foundation.settings import load_settings
from loop import models
from loop.config import Recipe
from loop.folder import copy_folder
from loop.services import check_model, sample_reward_questions
from medpref.recipes import add_recipe

OnProgress = Callable[[TrainingProgress], None]
Stage = Callable[[Recipe, argparse.Namespace, OnProgress], dict[str, Any]]


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref train",
        "Run one training stage of a recipe and write the model to a folder.",
        examples="""  medpref train sft recipes/quickstart.toml --output models/base
  medpref train reward recipes/quickstart.toml --base models/base --output models/reward
  medpref train preference recipes/quickstart.toml --base models/base \\
      --pairs runs/quickstart-1/rounds/1/pairs.jsonl --output models/r1""",
    )
    parser.add_argument("stage", choices=STAGES, help="what to train")
    add_recipe(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="must not exist")
    parser.add_argument("--base", metavar="MODEL", help="the base policy (reward, preference)")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="pairs.jsonl (preference)")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="go on from it (preference)")
    options = parser.parse_args(arguments)
    _check(options)
    recipe = load_settings(Recipe, options.recipe, options.overrides)
    with Reporter() as reporter:

        def show(progress: TrainingProgress) -> None:
            reporter.progress(options.stage, progress.step, progress.total_steps)

        outcome = STAGES[options.stage](recipe, options, show)
        outcome["path"] = str(options.output)
        reporter.event("model.trained", f"{options.stage}: {options.output}", **outcome)
    return 0


def train_sft(recipe: Recipe, options: argparse.Namespace, show: OnProgress) -> dict[str, Any]:
    if recipe.policy.scratch is None or recipe.policy.sft is None:
        raise UserError(f"{options.recipe}: train sft needs [policy.scratch] and [policy.sft]")
    made = models.make_base_policy(recipe, on_progress=show)
    copy_folder(Path(made["path"]), options.output)
    return made


def train_reward(recipe: Recipe, options: argparse.Namespace, show: OnProgress) -> dict[str, Any]:
    if recipe.reward.training is None:
        raise UserError(f"{options.recipe}: train reward needs [reward.training]")
    samples = asyncio.run(_reward_samples(recipe))
    made = models.make_reward_model(recipe, options.base, samples, on_progress=show)
    copy_folder(Path(made["path"]), options.output)
    return made


def train_preference(
    recipe: Recipe, options: argparse.Namespace, show: OnProgress
) -> dict[str, Any]:
    if options.pairs is None or not options.pairs.is_file():
        raise UserError(f"--pairs: {options.pairs}: no such file; give a pairs.jsonl of a round")
    return models.train_round(
        recipe, options.base, options.pairs, options.adapter, options.output, on_progress=show
    )


STAGES: dict[str, Stage] = {
    "sft": train_sft,
    "reward": train_reward,
    "preference": train_preference,
}


async def _reward_samples(recipe: Recipe) -> dict[str, list[str]]:
    world = open_world(recipe.data.world, path=recipe.data.path, seed=recipe.seed)
    if not world.reward_questions(recipe.data.reward_questions):
        return {}
    if recipe.policy.url is None:
        raise UserError(
            "policy.url: missing; this world's pairs need answers of the base policy:"
            " start `medpref serve policy` and add --set policy.url=URL"
        )
    return await sample_reward_questions(recipe, world, recipe.policy.url)


def _check(options: argparse.Namespace) -> None:
    if options.output.exists():
        raise UserError(f"--output: {options.output}: exists already; name another folder")
    if options.stage == "sft":
        return
    if options.base is None:
        raise UserError(f"--base: missing; train {options.stage} starts from a base policy")
    check_model(options.base, "--base")
