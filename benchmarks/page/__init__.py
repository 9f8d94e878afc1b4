"""The page of one evaluation: its scores beside published ones and beside their controls.

Made from the results alone. It asks nothing from anywhere: its style and drawings are inside,
scripts there are none, and names are shown as text and nothing else. Same results, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from benchmarks import tables
from benchmarks.page import drawings
from benchmarks.page.drawings import Chart, Reference, Strip
from benchmarks.published import PublishedRow
from benchmarks.results import Results, Score
from foundation.journal import writing
from foundation.pages import page_environment
from foundation.words import NOTHING, decimal

LONGER_WINS = "A rule that prefers the longer candidate"


def write_page(path: Path, results: Results, published: Sequence[PublishedRow] = ()) -> None:
    """Writes the page, whole or not at all.

    Raises:
        JobError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        partial.write_text(render(results, published), encoding="utf-8")
        partial.replace(path)


def render(results: Results, published: Sequence[PublishedRow] = ()) -> str:
    """The page as HTML."""
    found = results.controls
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            cautions=(*results.partial_reasons, *doubts(results)),
            scores=_scores(results, published),
            beside=tables.beside(results, published) if published else None,
            controls=_controls(results),
            asked_again=tables.asked_again(results),
            by_length=_by_length(results),
            reliability=drawings.reliability(found.calibration) if found.calibration else None,
            calibration=tables.calibration(results) if found.calibration else None,
            subsets=None if results.subsets == results.sections else _subsets(results),
            alternatives=tables.alternatives(results),
            settings=dict(flatten(results.settings)),
        )
    )


def doubts(results: Results) -> tuple[str, ...]:
    """What the controls say against the score, one sentence each."""
    if results.overall_ci95 is None:
        return ()
    low, found = results.overall_ci95[0], results.controls
    sayings = (
        (found.longer_wins, "The score is not clearly above that of preferring the longer answer"),
        (found.shuffled_question, "The score is hardly lower when the question is another one"),
        (found.empty_question, "The score is hardly lower when there is no question"),
    )
    return tuple(
        f"{saying}: {tables.percent(control.score)} %."
        for control, saying in sayings
        if control is not None and control.score is not None and control.score >= low
    )


def flatten(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings with names like ``endpoint.url``, values as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{before}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{before}{name}", ", ".join(map(str, value)) or NOTHING
        else:
            yield f"{before}{name}", NOTHING if value is None else str(value)


def _scores(results: Results, published: Sequence[PublishedRow]) -> Chart:
    longer = results.controls.longer_wins
    references = (
        () if longer is None else (Reference(LONGER_WINS, longer.score, (tables.OVERALL,)),)
    )
    own = {
        tables.OVERALL: _overall(results),
        **results.sections,
        **{
            name: Score(score=None, n=0, ci95=None)
            for name in tables.column_names(results, published)
            if name not in results.sections
        },
    }
    return drawings.draw_chart(
        [
            Strip(name, score.score, score.ci95, score.n, _others(name, published))
            for name, score in own.items()
        ],
        references,
    )


def _others(name: str, published: Sequence[PublishedRow]) -> tuple[tuple[str, float], ...]:
    figures = (
        (row.system, row.overall if name == tables.OVERALL else row.scores.get(name))
        for row in published
    )
    return tuple((system, figure / 100) for system, figure in figures if figure is not None)


def _controls(results: Results) -> Chart | None:
    named = {
        words: score
        for name, words in tables.CONTROLS.items()
        if isinstance(score := getattr(results.controls, name), Score)
    }
    if not named:
        return None
    rows = {"The model itself": _overall(results), **named}
    return drawings.draw_chart(
        [Strip(name, score.score, score.ci95, score.n) for name, score in rows.items()]
    )


def _by_length(results: Results) -> Chart | None:
    buckets = results.controls.by_length
    if buckets is None:
        return None
    return drawings.draw_chart(
        [Strip(tables.LENGTHS.get(one.name, one.name), one.score, None, one.n) for one in buckets],
        (Reference("The model overall", results.overall),),
    )


def _subsets(results: Results) -> Chart:
    return drawings.draw_chart(
        [Strip(name, score.score, score.ci95, score.n) for name, score in results.subsets.items()]
    )


def _overall(results: Results) -> Score:
    counts = results.counts
    return Score(
        score=results.overall, n=max(counts.scored - counts.ties, 0), ci95=results.overall_ci95
    )


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.globals["square"] = drawings.SQUARE
    named = (decimal, tables.percent, tables.bracket)
    environment.filters |= {function.__name__: function for function in named}
    return environment
