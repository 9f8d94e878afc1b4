"""The results for people: one table, modes beside each other, and one beside published systems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.published import PublishedRow
from benchmarks.qa.answered import Mode
from benchmarks.qa.boards import COLUMNS
from benchmarks.qa.results import QaResults
from benchmarks.results import Score
from benchmarks.tables import (
    INTERVAL,
    OVERALL,
    Table,
    bracket,
    percent,
    places_of,
    ranked,
    sources,
)
from foundation.words import NOTHING, decimal

SHORT = {
    "med_qa": "MedQA",
    "med_mcqa": "MedMCQA",
    "pubmed_qa": "PubMedQA",
    "clinical_knowledge": "CK",
    "medical_genetics": "MG",
    "anatomy": "An",
    "professional_medicine": "PM",
    "college_biology": "CB",
    "college_medicine": "CM",
}
"""UltraMedical's names for the columns of its table."""


@dataclass(frozen=True, slots=True)
class QaRow:
    """A score in each mode."""

    name: str
    n: int
    """Questions, of the mode with the most."""

    scores: dict[Mode, Score]


def rows(results: QaResults) -> list[QaRow]:
    """Overall, then every section, in the order of the results."""
    overall = {
        mode: Score(score=each.overall, n=each.counts.scored, ci95=each.overall_ci95)
        for mode, each in results.modes.items()
    }
    names = dict.fromkeys(name for each in results.modes.values() for name in each.sections)
    sections = {
        name: {
            mode: each.sections[name]
            for mode, each in results.modes.items()
            if name in each.sections
        }
        for name in names
    }
    return [
        QaRow(name, max(score.n for score in scores.values()), scores)
        for name, scores in ((OVERALL, overall), *sections.items())
    ]


def tables(results: QaResults, published: Sequence[PublishedRow] = ()) -> Iterator[Table]:
    """The scores, and what others have published where any of the columns was asked."""
    yield scores(results)
    if published and any(name in COLUMNS for name in results.sections):
        yield beside(results, published)


def scores(results: QaResults) -> Table:
    """Overall and by section, two columns a mode."""
    columns = [title for mode in results.modes for title in (mode, INTERVAL)]
    lines = []
    for row in rows(results):
        found = [row.scores.get(mode) for mode in results.modes]
        cells = [cell for score in found for cell in _cells(score)]
        lines.append((row.name, *cells, f"{row.n:,}"))
    return Table(
        title=f"{results.benchmark}: {results.model}",
        columns=("", *columns, "questions"),
        rows=tuple(lines),
        notes=tuple(notes(results)),
        strong=frozenset({0}),
    )


def beside(results: QaResults, published: Sequence[PublishedRow]) -> Table:
    """Our scores over those of UltraMedical's table, one row a mode; the best system first."""
    places = max(map(places_of, published), default=1)
    lines = []
    for mode, found in results.modes.items():
        own = [score.score if (score := found.sections.get(name)) else None for name in COLUMNS]
        overall = None if None in own else found.overall
        cells = (percent(score, places) for score in (*own, overall))
        lines.append((f"{results.model}, {mode}", *cells))
    for row in ranked(published):
        figures = (*(row.scores.get(name) for name in COLUMNS), row.overall)
        lines.append((row.system, *(decimal(figure, places_of(row)) for figure in figures)))
    return Table(
        title="Beside published systems",
        columns=("system", *SHORT.values(), "Avg"),
        rows=tuple(lines),
        notes=sources(published),
        strong=frozenset(range(len(results.modes))),
    )


def notes(results: QaResults) -> Iterator[str]:
    """What a reader should not overlook, one line each."""
    for mode, found in results.modes.items():
        if found.parse_rate is not None:
            yield (
                f"{mode}: {percent(found.parse_rate)} % of the answers choose an option,"
                f" {percent(found.cut_rate)} % were cut; {found.undecided:,} questions without a"
                " choice count as wrong"
            )
    if results.missing:
        yield f"Overall goes without {', '.join(SHORT[name] for name in results.missing)}"
    yield from (f"Partial: {reason}" for reason in results.partial_reasons)


def _cells(score: Score | None) -> tuple[str, str]:
    return (NOTHING, NOTHING) if score is None else (percent(score.score), bracket(score.ci95))
