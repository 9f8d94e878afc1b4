"""``medpref bench table``: several evaluations in one table, each with its controls beside it.

A score alone says little: a row has what the longer answer and the same model without the question
reach on the same groups. A row is named by its folder, short of what all folders share.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.results import RESULTS, Results, Score, read_results
from benchmarks.suites import SUITES
from benchmarks.tables import Table, bracket, cautions, percent, scored, to_markdown, to_rich
from foundation.errors import UserError
from foundation.parsing import Parser

COLUMNS = (
    "evaluation",
    "groups",
    "score",
    "95 % interval",
    "longer wins",
    "another question",
    "empty question",
)
LEAST_WIDTH = 110
"""Columns that the table needs, also where there is no terminal."""

EXAMPLES = """  {prog} evaluations/pairs/*
  {prog} evaluations --sections --markdown > table.md"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench table") -> int:
    """Prints the table; returns 0.

    Raises:
        UserError: naming the folder or file and what is wrong.
    """
    parser = Parser(
        prog,
        "Put evaluations of reward models into one table, each beside its controls.",
        examples=EXAMPLES.format(prog=prog),
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="output folder of an evaluation, or one that has such folders in it",
    )
    parser.add_argument("--sections", action="store_true", help="a row for each section as well")
    parser.add_argument("--markdown", action="store_true", help="for a document, not a terminal")
    options = parser.parse_args(arguments)
    found = {folder: read_results(folder) for each in options.folders for folder in _inside(each)}
    table = side_by_side(_named(found), sections=options.sections)
    if options.markdown:
        sys.stdout.write(to_markdown(table))
        return 0
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(to_rich(table))
    return 0


def side_by_side(evaluations: dict[str, Results], *, sections: bool = False) -> Table:
    """One row an evaluation, in the order given; below it its sections, if they are wanted.

    Notes tell what of an evaluation is partial.
    """
    rows: list[tuple[str, ...]] = []
    strong: set[int] = set()
    for name, results in evaluations.items():
        strong.update({len(rows)} if sections else ())
        rows.append(_overall(name, results))
        rows += [_section(*each) for each in results.sections.items() if sections]
    notes = (f"{name}: {said}" for name, each in evaluations.items() for said in cautions(each))
    return Table("Evaluations", COLUMNS, tuple(rows), tuple(notes), frozenset(strong))


def _overall(name: str, results: Results) -> tuple[str, ...]:
    controls = results.controls
    beside = (controls.longer_wins, controls.shuffled_question, controls.empty_question)
    return (
        name,
        scored(results),
        percent(results.overall),
        bracket(results.overall_ci95),
        *(percent(each.score if each else None) for each in beside),
    )


def _section(name: str, score: Score) -> tuple[str, ...]:
    return (f"– {name}", f"{score.n:,}", percent(score.score), bracket(score.ci95), "", "", "")


def _inside(folder: Path) -> Iterator[Path]:
    """The folder if it is an evaluation's own, else those below it, by name."""
    if (folder / RESULTS).is_file():
        yield folder
        return
    below = sorted(file.parent for file in folder.rglob(RESULTS) if _is_of_rewards(file))
    if not below:
        raise UserError(f"{folder}: no {RESULTS} in it; give the output folder of an evaluation")
    yield from below


def _is_of_rewards(file: Path) -> bool:
    """Other jobs leave such a file as well. One that is damaged is told of when it is read."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return True
    return not isinstance(content, dict) or content.get("benchmark") in SUITES


def _named(found: dict[Path, Results]) -> dict[str, Results]:
    common = Path(os.path.commonpath([folder.absolute().parent for folder in found]))
    return {
        folder.absolute().relative_to(common).as_posix(): each for folder, each in found.items()
    }
