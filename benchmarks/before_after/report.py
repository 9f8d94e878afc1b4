"""The results for people: one table a kind, so that general ability stands apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from benchmarks.before_after.results import BeforeAfterResults, Change, Kind
from benchmarks.before_after.wording import KINDS, MEASURES, OUTCOMES, bracketed, shown, signed
from benchmarks.compare import p_value
from benchmarks.tables import INTERVAL, Table, percent, to_markdown
from foundation.words import NOTHING, decimal

AVERAGE = "Average"
MANNER = "Length of the answers"

READING = (
    "Paired question by question: bootstrap intervals, p by flipping signs, not corrected for the"
    " number of rows. A gain or loss has an interval without zero and p < 0.05."
)


def tables(results: BeforeAfterResults) -> Iterator[Table]:
    """A table for each kind that was measured, then one of lengths."""
    for kind in KINDS:
        if found := changes_of(results, kind):
            yield _table(results, kind, found)
    if results.manner:
        yield _manner(results)


def title(results: BeforeAfterResults) -> str:
    """Whose comparison this is."""
    return f"{results.run}: {results.after} against {results.before}"


def lines(results: BeforeAfterResults) -> Iterator[str]:
    """What the tables come to, and why it is not all there is."""
    yield from results.verdict
    yield from (f"Partial: {reason}" for reason in results.partial_reasons)


def markdown(results: BeforeAfterResults) -> str:
    """For a document."""
    said = "\n".join(f"- {line}" for line in lines(results))
    shown_tables = (to_markdown(table) for table in tables(results))
    return "\n".join([f"## {title(results)}\n", f"{said}\n", *shown_tables, f"{READING}\n"])


def changes_of(results: BeforeAfterResults, kind: Kind) -> dict[str, Change]:
    """The changes of a kind by what they are called; averages come first."""
    averages = {
        f"{AVERAGE}, {change.mode}": change
        for change in results.averages.values()
        if change.kind == kind
    }
    own = {name: change for name, change in results.suites.items() if change.kind == kind}
    return averages | own


def _table(results: BeforeAfterResults, kind: Kind, changes: Mapping[str, Change]) -> Table:
    return Table(
        title=KINDS[kind],
        columns=(*_columns(results), "", "questions"),
        rows=tuple(
            (name, *_cells(change), _outcome(change), f"{change.n:,}")
            for name, change in changes.items()
        ),
        notes=tuple(_notes(results, kind)),
    )


def _manner(results: BeforeAfterResults) -> Table:
    return Table(
        title=MANNER,
        columns=(*_columns(results), "questions"),
        rows=tuple(
            (name, *_cells(change), f"{change.n:,}")
            for name, measures in results.manner.items()
            for change in measures.values()
        ),
    )


def _columns(results: BeforeAfterResults) -> tuple[str, ...]:
    return ("", "measure", results.before, results.after, "difference", INTERVAL, "p")


def _cells(change: Change) -> tuple[str, ...]:
    measure, apart = change.measure, change.difference
    return (
        MEASURES[measure].column,
        shown(measure, change.before.score),
        shown(measure, change.after.score),
        signed(measure, apart.score),
        bracketed(measure, apart.ci95),
        p_value(apart.p),
    )


def _outcome(change: Change) -> str:
    return NOTHING if change.outcome is None else OUTCOMES[change.outcome]


def _notes(results: BeforeAfterResults, kind: Kind) -> Iterator[str]:
    """What the rows of a kind are to be seen beside."""
    gold = results.settings.get("run", {}).get("gold")
    if kind == "world" and gold and None not in gold:
        yield (
            f"The run's own summary, on the draws by which its gate decided: gold"
            f" {percent(gold[0])} before, {percent(gold[1])} after."
        )
    for name, change in results.suites.items():
        if change.kind == kind and change.measure == "logprob_per_token":
            before, after = (
                decimal(math.exp(-score.score), 2)
                for score in (change.before, change.after)
                if score.score is not None
            )
            yield (
                f"{name}: as perplexity {before} before, {after} after. Known answers are of the"
                " run's own world: suites of --general tell more of a tax."
            )
