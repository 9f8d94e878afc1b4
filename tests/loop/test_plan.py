from __future__ import annotations

import re
from pathlib import Path

import pytest

from foundation.settings import load_settings
from loop.config import Recipe
from loop.plan import GIB, make_plan

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_resolves_to_a_plan(path: Path) -> None:
    plan = make_plan(load_settings(Recipe, path))
    assert [process.name for process in plan.processes] == [
        "policy server",
        "reward server",
        "trainer",
    ]
    assert "unknown" not in str(plan)


def test_the_gpu_recipe_plans_models_gpus_and_memory() -> None:
    plan = make_plan(load_settings(Recipe, RECIPES[0].parent / "llama-8b.toml"))
    assert plan.gpus == 3
    assert all(process.model.count("/") == 1 for process in plan.processes)
    # Eight billion weights of two bytes are fifteen gibibytes; the trainer's have four.
    memory = [round((process.memory_bytes or 0) / GIB) for process in plan.processes]
    assert memory == [15, 15, 30]
    assert re.search(r"LoRA r=\d+", str(plan))


def test_a_hub_model_of_unknown_size_says_what_to_set() -> None:
    path = RECIPES[0].parent / "llama-8b.toml"
    recipe = load_settings(Recipe, path)
    policy = recipe.policy.model_copy(update={"parameters_billion": None})
    plan = make_plan(recipe.model_copy(update={"policy": policy}))
    assert "set parameters_billion" in str(plan)
