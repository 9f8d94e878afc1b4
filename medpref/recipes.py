"""The recipe on the command line."""

from __future__ import annotations

from pathlib import Path

from foundation.parsing import Parser


def add_recipe(parser: Parser) -> None:
    """The recipe and its overrides."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="what to run")
    add_overrides(parser)


def add_overrides(parser: Parser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a setting of the recipe, for example --set sampling.candidates=4",
    )
