"""``medpref align``: launch or resume alignment rounds."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from foundation.parsing import Parser
from foundation.reporting import Reporter
from foundation.settings import load_settings
from loop.align import align, preflight
from loop.config import Recipe
from loop.errors import RunError
from loop.folder import open_run_folder
from loop.plan import make_plan
from medpref.recipes import add_recipe

RUNS = Path("runs")


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref align",
        "Launch or resume alignment rounds: sample, score, pair, train, gate, deploy.",
        examples="""  medpref align recipes/quickstart.toml
  medpref align recipes/quickstart.toml --run-dir runs/mine --set rounds=1
  medpref align recipes/quickstart.toml --run-dir runs/mine --resume
  medpref align recipes/llama-8b.toml --dry-run""",
    )
    add_recipe(parser)
    add_run_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved plan and start nothing"
    )
    options = parser.parse_args(arguments)
    recipe = load_settings(Recipe, options.recipe, options.overrides)
    if options.dry_run:
        sys.stdout.write(f"{make_plan(recipe)}\n")
        return 0
    return run(recipe, options.run_dir, resume=options.resume)


def add_run_options(parser: Parser) -> None:
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="the run folder (default: runs/NAME-1, -2, …)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir, or the latest one"
    )


def run(recipe: Recipe, run_dir: Path | None, *, resume: bool) -> int:
    """Plays a recipe and says where to look."""
    path = run_dir or (latest_run(recipe.name) if resume else next_run(recipe.name))
    with Reporter() as reporter:
        world = asyncio.run(preflight(recipe))
        folder = open_run_folder(path, recipe, resume=resume)
        asyncio.run(align(recipe, world, folder, reporter))
        reporter.event("report.written", f"report: {folder.report}", path=folder.report)
    return 0


def next_run(name: str) -> Path:
    """The first run folder of this name that is not there yet."""
    return RUNS / f"{name}-{max(_numbers(name), default=0) + 1}"


def latest_run(name: str) -> Path:
    """The newest run folder of this name.

    Raises:
        RunError: if there is none.
    """
    numbers = _numbers(name)
    if not numbers:
        raise RunError(f"--resume: no run called {name} in {RUNS}/; name it with --run-dir")
    return RUNS / f"{name}-{max(numbers)}"


def _numbers(name: str) -> list[int]:
    matches = (re.fullmatch(rf"{re.escape(name)}-(\d+)", path.name) for path in RUNS.glob("*"))
    return [int(match[1]) for match in matches if match]
