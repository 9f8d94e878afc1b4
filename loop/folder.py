"""The run folder: where everything of a run lies."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from loop.config import Recipe
from loop.errors import RunError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def reward_model(self) -> Path:
        return self.path / "reward_model"

    def policy(self, version: str) -> Path:
        return self.path / "policies" / version

    def round(self, number: int) -> Path:
        return self.path / "rounds" / str(number)


def open_run_folder(path: Path, recipe: Recipe, *, resume: bool) -> RunFolder:
    """Makes the folder of a new run, or checks that an old one belongs to this recipe.

    Raises:
        RunError: if a new run would overwrite an old one, or ``resume`` finds no run or another
            recipe's.
    """
    folder = RunFolder(path)
    resolved = recipe.model_dump_json(indent=2) + "\n"
    if resume:
        _check_recipe(folder, recipe)
        return folder
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{path}: there is something already; add --resume or name another --run-dir"
        )
    for inner in (path / "policies", path / "rounds", folder.logs):
        inner.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(resolved, encoding="utf-8")
    return folder


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def copy_folder(source: Path, target: Path) -> None:
    """A copy of its own, which outlives the cache. Whole or not at all; replaces an old one."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: no run to resume (no config.json); leave --resume out")
    before = json.loads(folder.config.read_text(encoding="utf-8"))
    now = json.loads(recipe.model_dump_json())
    # Where the servers are may change from one attempt to the next; what they hold may not.
    for settings in (before, now):
        settings["policy"].pop("url")
        settings["reward"].pop("url")
        settings["reward"].pop("api_key_env", None)  # a run of before it has none
    if before != now:
        changed = ", ".join(sorted(_differences(before, now)))
        raise RunError(f"{folder.path}: the recipe changed since this run began: {changed}")


def _differences(before: object, now: object, prefix: str = "") -> set[str]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return set() if before == now else {prefix}
    found: set[str] = set()
    for key in before.keys() | now.keys():
        path = f"{prefix}.{key}" if prefix else str(key)
        found |= _differences(before.get(key), now.get(key), path)
    return found
