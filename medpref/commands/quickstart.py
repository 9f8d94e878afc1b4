"""``medpref quickstart``: the main job on the bundled world."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from foundation.parsing import Parser
from foundation.settings import load_settings
from loop.config import Recipe
from medpref.commands.align import add_run_options, run
from medpref.recipes import add_overrides


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref quickstart",
        "Make a small medical policy and a reward model on the spot and watch the policy get\n"
        "better in three rounds. Needs no hub, no GPU and no data file; about seven minutes on two"
        " cores.",
        examples="""  medpref quickstart
  medpref quickstart --seed 1 --run-dir runs/second
  medpref quickstart --resume""",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of everything that is drawn")
    add_run_options(parser)
    add_overrides(parser)
    options = parser.parse_args(arguments)
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    with as_file(files("recipes") / "quickstart.toml") as path:
        recipe = load_settings(Recipe, Path(path), [*seed, *options.overrides])
    return run(recipe, options.run_dir, resume=options.resume)
