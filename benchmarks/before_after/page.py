"""``report.html`` of a comparison, in the style of an evaluation's page: made from results alone.

Asks nothing from anywhere, and shows names as text. Same results, same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from benchmarks import page
from benchmarks.before_after import report
from benchmarks.before_after.drawing import Chart, draw_charts
from benchmarks.before_after.results import BeforeAfterResults, Outcome
from benchmarks.before_after.wording import KINDS, OUTCOMES
from benchmarks.tables import Table
from foundation.journal import writing
from foundation.pages import page_environment
from foundation.words import NOTHING

HERE, SHARED = Path(__file__).parent, Path(page.__file__).parent


@dataclass(frozen=True, slots=True)
class Section:
    """The changes of one kind, drawn and in numbers."""

    title: str
    notes: tuple[str, ...]
    charts: list[Chart]
    table: Table


def write_page(path: Path, results: BeforeAfterResults) -> None:
    """Writes the page, whole or not at all.

    Raises:
        JobError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        partial.write_text(render(results), encoding="utf-8")
        partial.replace(path)


def render(results: BeforeAfterResults) -> str:
    """The page as HTML."""
    tables = {table.title: table for table in report.tables(results)}
    outcomes = Counter(change.outcome for change in results.suites.values())
    return (
        _environment()
        .get_template("before_after.html.j2")
        .render(
            results=results,
            title=report.title(results),
            counts={outcome: outcomes[outcome] for outcome in OUTCOMES},
            sections=list(_sections(results, tables)),
            manner=tables.get(report.MANNER),
            reading=report.READING,
            settings=dict(page.flatten(results.settings)),
        )
    )


def _sections(results: BeforeAfterResults, tables: dict[str, Table]) -> Iterator[Section]:
    for kind, title in KINDS.items():
        if changes := report.changes_of(results, kind):
            table = tables[title]
            yield Section(title, table.notes, draw_charts(changes), table)


def _outcome(outcome: Outcome | None) -> str:
    return NOTHING if outcome is None else OUTCOMES[outcome]


def _environment() -> Environment:
    environment = page_environment(HERE, SHARED)
    environment.filters["outcome"] = _outcome
    return environment
