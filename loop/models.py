"""The training jobs of a run. Imported in the trainer's process only: it loads torch and trl.

Base policy and reward model depend on nothing but data, settings, seed and code, so they are cached
by exactly that; what a round trains belongs to its run. Every job returns plain JSON, which goes
into the ledger as it is.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingface_hub import snapshot_download

from corpora.errors import CorpusError
from corpora.preference import read_pairs
from corpora.world import RewardPairs, World
from corpora.worlds import open_world
from foundation import training
from foundation.cache import ArtifactCache, content_key, default_cache_root, digest_files
from foundation.training import OnProgress
from loop.config import Recipe
from policy.training import preference, scratch, sft
from policy.training.config import PreferenceConfig
from reward_server import training as reward_training

Outcome = dict[str, Any]
METRICS = "training_metrics.json"
LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")


def make_base_policy(recipe: Recipe, *, on_progress: OnProgress) -> Outcome:
    """Trains the base policy from nothing on the world's demonstrations, or finds it.

    Raises:
        CorpusError: if the world has no demonstrations.
    """
    world = _world(recipe)
    shape, tuning = recipe.policy.scratch, recipe.policy.sft
    assert shape is not None, "checked with the recipe"
    assert tuning is not None, "checked with the recipe"
    demonstrations = world.demonstrations()
    if not demonstrations:
        raise CorpusError(
            f"data.world: {world.name!r} has no demonstrations; set policy.model=PATH_OR_ID"
        )

    def make(output: Path) -> None:
        start = output.with_suffix(".random")
        shutil.rmtree(start, ignore_errors=True)
        scratch.create_base_policy(demonstrations, shape, start, seed=recipe.seed)
        result = sft.train_sft(
            start, demonstrations, tuning, output, seed=recipe.seed, on_progress=on_progress
        )
        shutil.rmtree(start)
        _write_metrics(output, dataclasses.asdict(result))

    made_from = {
        "world": world.digest,
        "seed": recipe.seed,
        "scratch": shape.model_dump(mode="json"),
        "sft": tuning.model_dump(mode="json"),
        **_code(scratch, sft),
    }
    return _obtain("base_policy", made_from, make)


def make_reward_model(
    recipe: Recipe, base: str, samples: Mapping[str, Sequence[str]], *, on_progress: OnProgress
) -> Outcome:
    """Trains the reward model from the base policy's weights on the world's pairs, or finds it."""
    world = _world(recipe)
    tuning = recipe.reward.training
    assert tuning is not None, "checked with the recipe"
    pairs = world.reward_pairs(samples)

    def make(output: Path) -> None:
        result = reward_training.train_reward_model(
            _folder(base), pairs, tuning, output, seed=recipe.seed, on_progress=on_progress
        )
        _write_metrics(output, dataclasses.asdict(result))

    made_from = {
        "world": world.digest,
        "seed": recipe.seed,
        "base": digest_files(_folder(base)),
        "pairs": _digest_pairs(pairs),
        "training": tuning.model_dump(mode="json"),
        **_code(reward_training),
    }
    return _obtain("reward_model", made_from, make)


def train_round(
    recipe: Recipe,
    base: str,
    pairs_file: Path,
    adapter: Path | None,
    output: Path,
    *,
    on_progress: OnProgress,
) -> Outcome:
    """Trains an adapter on a round's pairs, from ``adapter`` or a fresh one, against the base."""
    shutil.rmtree(output, ignore_errors=True)  # a killed attempt's; a finished step is not repeated
    trainer = _warm_trainer(_folder(base), recipe.preference)
    result = trainer.train(
        list(read_pairs(pairs_file)),
        adapter=adapter,
        output=output,
        seed=recipe.seed,
        on_progress=on_progress,
    )
    return dataclasses.asdict(result)


@cache
def _warm_trainer(base: Path, config: PreferenceConfig) -> preference.PreferenceTrainer:
    return preference.PreferenceTrainer(base, config)


def _folder(model: str) -> Path:
    """Where a model lies: a folder as it is, a hub name as it was fetched."""
    return Path(model) if Path(model).is_dir() else Path(snapshot_download(model))


def _world(recipe: Recipe) -> World:
    return open_world(recipe.data.world, path=recipe.data.path, seed=recipe.seed)


def _obtain(kind: str, made_from: Mapping[str, Any], make: Any) -> Outcome:
    store = ArtifactCache(default_cache_root())
    is_cached = store.find(kind, made_from) is not None
    path = store.obtain(kind, made_from, make)
    metrics = json.loads((path / METRICS).read_text(encoding="utf-8"))
    return {"path": str(path), "cached": is_cached, **metrics}


def _write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _code(*modules: ModuleType) -> dict[str, Any]:
    """What else shapes a model: the code that trains it and the libraries below."""
    sources = [Path(inspect.getfile(module)) for module in (*modules, training)]
    return {
        "code": digest_files(*sources),
        "libraries": {library: version(library) for library in LIBRARIES},
    }


def _digest_pairs(pairs: RewardPairs) -> str:
    return content_key(
        {part: [pair.to_trl() for pair in getattr(pairs, part)] for part in ("train", "heldout")}
    )
