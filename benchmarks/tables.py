"""Tables of results: first as they are, then for a terminal or as Markdown.

Scores are per cent with one decimal, with two beside published ones that have two; intervals are
``[low, high]``, and what is not there is a dash. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.published import PublishedRow
from benchmarks.results import Interval95, Results, Score, Sensitivity
from foundation.words import NOTHING, decimal, tiny

OVERALL = "Overall"
INTERVAL = "95 % interval"

LENGTHS: Mapping[str, str] = {
    "shorter_by_2x": "at most half as long",
    "shorter": "shorter",
    "as_long": "about as long",
    "longer": "longer",
    "longer_by_2x": "at least twice as long",
}
"""What the chosen candidate is beside the rejected one, by bucket."""

CONTROLS: Mapping[str, str] = {
    "longer_wins": "The longer candidate wins",
    "shuffled_question": "Under another question",
    "empty_question": "Under an empty question",
}
"""Scores that stand beside the model's own, by control."""

ASKED_AGAIN: Mapping[str, str] = {
    "swapped_order": "Candidates in the opposite order",
    "batch_composition": "Each group alone",
}
"""The same groups in another company, by control."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under names. The first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    strong: frozenset[int] = frozenset()
    """Rows, counted from 0, that stand out."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a cell for every column"


def percent(share: float | None, places: int = 1) -> str:
    """``80.5`` for 0.805."""
    return decimal(None if share is None else 100 * share, places)


def bracket(interval: Interval95 | None, places: int = 1) -> str:
    """``[77.7, 83.3]`` for an interval of shares."""
    if interval is None:
        return NOTHING
    return f"[{percent(interval[0], places)}, {percent(interval[1], places)}]"


def tables_of(results: Results, published: Sequence[PublishedRow] = ()) -> Iterator[Table]:
    """Everything in the results that is there, the scores first."""
    yield overview(results)
    if published:
        yield beside(results, published)
    for table in (controls(results), asked_again(results), by_length(results)):
        if table.rows:
            yield table
    if results.controls.calibration is not None:
        yield calibration(results)
    if results.subsets and results.subsets != results.sections:
        yield _scores("Subsets", results.subsets)
    if results.alternatives:
        yield alternatives(results)


def overview(results: Results) -> Table:
    """Overall and by section, with what a reader should not overlook."""
    rows = (
        (OVERALL, percent(results.overall), bracket(results.overall_ci95), scored(results)),
        *(_row(name, score) for name, score in results.sections.items()),
    )
    return Table(
        title=f"{results.benchmark}: {results.model}",
        columns=("", "score", INTERVAL, "groups"),
        rows=rows,
        notes=cautions(results),
        strong=frozenset({0}),
    )


def cautions(results: Results) -> tuple[str, ...]:
    """Why the numbers are not all there is, one line each."""
    return tuple(f"Partial: {reason}" for reason in results.partial_reasons)


def scored(results: Results) -> str:
    """Groups behind the overall score."""
    return f"{results.counts.scored - results.counts.ties:,}"


def beside(results: Results, published: Sequence[PublishedRow]) -> Table:
    """Our scores over those of published systems, best overall score first."""
    names = column_names(results, published)
    own = {**results.subsets, **results.sections}
    ours = [own[name].score if name in own else None for name in names]
    places = max(map(places_of, published), default=1)
    rows = [(results.model, *(percent(score, places) for score in (*ours, results.overall)), "")]
    numbers = number_sources(published)
    for row in ranked(published):
        figures = (*(row.scores.get(name) for name in names), row.overall)
        shown = (decimal(figure, places_of(row)) for figure in figures)
        rows.append((row.system, *shown, f"{numbers[row.source]}"))
    return Table(
        title="Beside published systems",
        columns=("system", *names, OVERALL, "source"),
        rows=tuple(rows),
        notes=sources(published),
        strong=frozenset({0}),
    )


def places_of(row: PublishedRow) -> int:
    """Decimals that a row's figures were printed with: one, or two where any has two."""
    figures = (*row.scores.values(), row.overall or 0.0)
    return 2 if any(abs(round(figure, 1) - figure) > 1e-9 for figure in figures) else 1


def column_names(results: Results, published: Sequence[PublishedRow]) -> tuple[str, ...]:
    """Our sections, then what only others have a score of."""
    return tuple(dict.fromkeys((*results.sections, *(n for row in published for n in row.scores))))


def ranked(published: Sequence[PublishedRow]) -> list[PublishedRow]:
    """Published systems from the best overall score down; those without one come last."""
    return sorted(published, key=lambda row: -1.0 if row.overall is None else row.overall)[::-1]


def number_sources(published: Sequence[PublishedRow]) -> dict[str, int]:
    """Sources, numbered from 1 as they come."""
    return {name: n for n, name in enumerate(dict.fromkeys(row.source for row in published), 1)}


def sources(published: Sequence[PublishedRow]) -> tuple[str, ...]:
    """Where the figures are from, and what was said of single ones."""
    numbers = number_sources(published)
    said: dict[str, list[str]] = {}
    for row in published:
        if row.note:
            said.setdefault(row.note, []).append(f"{row.system} ({numbers[row.source]})")
    return (
        *(f"({number}) {source}" for source, number in numbers.items()),
        *(f"{_capital(note)}: {', '.join(systems)}" for note, systems in said.items()),
    )


def controls(results: Results) -> Table:
    """The model's own score and the scores of its controls."""
    found = {
        words: score
        for name, words in CONTROLS.items()
        if isinstance(score := getattr(results.controls, name), Score)
    }
    own = (results.model, percent(results.overall), bracket(results.overall_ci95), scored(results))
    rows = (own, *(_row(words, score) for words, score in found.items())) if found else ()
    return Table(
        title="Controls",
        columns=("", "score", INTERVAL, "groups"),
        rows=rows,
        strong=frozenset({0}),
    )


def asked_again(results: Results) -> Table:
    """How far the same groups have other rewards in another company."""
    found = {
        words: again
        for name, words in ASKED_AGAIN.items()
        if isinstance(again := getattr(results.controls, name), Sensitivity)
    }
    return Table(
        title="Asked again",
        columns=("", "largest change of a reward", "orders changed", "groups"),
        rows=tuple(
            (words, tiny(again.largest_change), f"{again.changed_order:,}", f"{again.n:,}")
            for words, again in found.items()
        ),
    )


def by_length(results: Results) -> Table:
    """The score by how long the chosen candidate is."""
    return Table(
        title="By length",
        columns=("the chosen candidate is", "score", "groups"),
        rows=tuple(
            (LENGTHS.get(bucket.name, bucket.name), percent(bucket.score), f"{bucket.n:,}")
            for bucket in results.controls.by_length or ()
        ),
    )


def calibration(results: Results) -> Table:
    """Probabilities that the margins stand for, and how often they were right."""
    found = results.controls.calibration
    assert found is not None, "asked of results that have it"
    return Table(
        title="Calibration",
        columns=("probability", "predicted", "right", "groups"),
        rows=tuple(
            (
                f"{percent(one.low, 0)} to {percent(one.high, 0)}",
                percent(one.mean_probability),
                percent(one.accuracy),
                f"{one.n:,}",
            )
            for one in found.bins
            if one.n
        ),
        notes=(
            f"expected error {percent(found.expected_error)}, log loss"
            f" {decimal(found.log_loss, 3)}, Brier score {decimal(found.brier, 3)}, best"
            f" temperature {decimal(found.temperature, 2)}",
        ),
    )


def alternatives(results: Results) -> Table:
    """The same rewards under other published rules."""
    return Table(
        title="Under other rules",
        columns=("rule", "score of", "score", INTERVAL, "groups"),
        rows=tuple(
            (rule.replace("_", " "), *_row(name, score))
            for rule, scores in results.alternatives.items()
            for name, score in scores.items()
        ),
    )


def to_rich(table: Table) -> Group:
    """For a terminal. Title and notes take its whole width, however narrow the table is."""
    rich = RichTable(box=box.SIMPLE_HEAD)
    for place, name in enumerate(table.columns):
        rich.add_column(Text(name), justify="right" if place else "left", no_wrap=place > 0)
    for place, row in enumerate(table.rows):
        rich.add_row(*map(Text, row), style="bold" if place in table.strong else None)
    notes = [Text(note, style="italic") for note in table.notes]
    return Group(Text(table.title, style="italic"), rich, *notes, *([Text()] if notes else []))


def to_markdown(table: Table) -> str:
    """For a document: a heading, the table, the notes."""
    rows = [
        [
            f"**{_escaped(cell)}**" if cell and place in table.strong else _escaped(cell)
            for cell in row
        ]
        for place, row in enumerate(table.rows)
    ]
    lines = [
        [_escaped(name) or " " for name in table.columns],
        [":--", *("--:" for _ in table.columns[1:])],
        *rows,
    ]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n\n".join(map(_escaped, table.notes))
    return "\n\n".join(filter(None, [f"### {_escaped(table.title)}", body, notes])) + "\n"


def _scores(title: str, scores: Mapping[str, Score]) -> Table:
    rows = tuple(_row(name, score) for name, score in scores.items())
    return Table(title, ("", "score", INTERVAL, "groups"), rows)


def _row(name: str, score: Score) -> tuple[str, str, str, str]:
    return name, percent(score.score), bracket(score.ci95), f"{score.n:,}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    plain = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\|*`<" else sign for sign in plain)
