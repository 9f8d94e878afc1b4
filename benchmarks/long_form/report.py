"""The results for people: the scores, and one line beside published systems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.long_form.results import LongFormResults
from benchmarks.published import PublishedRow
from benchmarks.tables import INTERVAL, Table, bracket, percent, places_of, sources
from foundation.words import decimal

NAMES = {
    "completeness": "completeness, %",
    "hallucination": "contradictions in 100 answers",
    "hallucination_share": "contradicted statements, %",
}
"""Scores in words. Completeness is the better the higher, the others the lower."""


def tables(results: LongFormResults, published: Sequence[PublishedRow] = ()) -> Iterator[Table]:
    """The scores, and what others have published."""
    yield scores(results)
    if published:
        yield beside(results, published)


def scores(results: LongFormResults) -> Table:
    """Each score with its interval."""
    return Table(
        title=f"{results.benchmark}: {results.model}, judged by {results.judge}",
        columns=("", "score", INTERVAL, "questions"),
        rows=tuple(
            (NAMES[name], percent(score.score), bracket(score.ci95), f"{score.n:,}")
            for name, score in results.scores.items()
        ),
        notes=tuple(notes(results)),
        strong=frozenset({0}),
    )


def beside(results: LongFormResults, published: Sequence[PublishedRow]) -> Table:
    """Our scores over those of published systems, the most complete first."""
    places = max(map(places_of, published))
    ours = (percent(score.score, places) for score in results.scores.values())
    rows = [(f"{results.model}, judged by {results.judge}", *ours)]
    for row in sorted(published, key=lambda row: -row.scores.get("completeness", 0.0)):
        figures = (decimal(row.scores.get(name), places_of(row)) for name in NAMES)
        rows.append((row.system, *figures))
    return Table(
        title="Beside published systems",
        columns=("system", *NAMES.values()),
        rows=tuple(rows),
        notes=(*sources(published), "Judges differ, and so do the words they are asked in"),
        strong=frozenset({0}),
    )


def notes(results: LongFormResults) -> Iterator[str]:
    """What a reader should not overlook, one line each."""
    if results.cut:
        yield f"{results.cut:,} answers ran into the limit and were judged as they are"
    for code, number in results.counts.errors.items():
        yield f"{code.replace('_', ' ')}: {number:,}"
    yield from (f"Partial: {reason}" for reason in results.partial_reasons)
