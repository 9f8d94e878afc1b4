"""The results for people: the curves as a table, their ends by section, and what they differ by."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.best_of_n.curves import METHODS, Method
from benchmarks.best_of_n.results import BestOfNResults, Curves, Difference
from benchmarks.tables import INTERVAL, OVERALL, Table, bracket, percent
from foundation.words import NOTHING, decimal, signed

NAMES: dict[Method, str] = {
    "reward": "reward",
    "vote": "vote",
    "weighted_vote": "weighted vote",
    "random": "random",
    "oracle": "oracle",
}
"""Ways of choosing, in words."""

MEASURES = {"accuracy": "right answers, %", "gold": "gold, %"}
"""What the scores are of."""

VERSUS = ("reward − vote", "reward − random")


def tables(results: BestOfNResults) -> Iterator[Table]:
    """The curves, their ends by section, and the differences there; nothing without scores."""
    yield curves_table(results)
    if len(results.sections) > 1:
        yield sections_table(results)
    if results.overall is not None:
        yield differences_table(results)


def curves_table(results: BestOfNResults) -> Table:
    """One row an N, one column a way of choosing."""
    overall = results.overall
    shown = methods(overall) if overall else ()
    rows = tuple(
        (
            f"{overall.curves['reward'][place].samples}",
            *(_cell(overall, method, place) for method in shown),
        )
        for place in range(len(overall.curves["reward"]) if overall else 0)
        if overall
    )
    return Table(
        title=title(results),
        columns=("N", *(NAMES[method] for method in shown)),
        rows=rows,
        notes=tuple(notes(results)),
    )


def sections_table(results: BestOfNResults) -> Table:
    """Where the curves end, section by section."""
    assert results.overall is not None, "asked of results with sections"
    shown = methods(results.overall)
    parts = {OVERALL: results.overall, **results.sections}
    has_greedy = any(part.greedy for part in parts.values())
    return Table(
        title=f"Chosen from {results.samples}",
        columns=(
            "",
            *(NAMES[method] for method in shown),
            *(("greedy",) if has_greedy else ()),
            "questions",
        ),
        rows=tuple(
            (
                name,
                *(percent(part.last(method).score) for method in shown),
                *((percent(part.greedy.score if part.greedy else None),) if has_greedy else ()),
                f"{part.questions:,}",
            )
            for name, part in parts.items()
        ),
        strong=frozenset({0}),
    )


def differences_table(results: BestOfNResults) -> Table:
    """What the reward gains on votes and on chance, in percentage points."""
    assert results.overall is not None, "asked of results with scores"
    parts = {OVERALL: results.overall}
    if len(results.sections) > 1:
        parts |= results.sections
    shown = [name for name in VERSUS if differences(results.overall)[name] is not None]
    return Table(
        title=f"Gains at N = {results.samples}, in points",
        columns=("", *(cell for name in shown for cell in (name, INTERVAL, "p")), "questions"),
        rows=tuple(
            (
                name,
                *(cell for versus in shown for cell in _gain(differences(part)[versus])),
                f"{part.questions:,}",
            )
            for name, part in parts.items()
        ),
        strong=frozenset({0}),
    )


def methods(curves: Curves) -> tuple[Method, ...]:
    """The ways of choosing that there are, in their order."""
    return tuple(method for method in METHODS if method in curves.curves)


def differences(curves: Curves) -> dict[str, Difference | None]:
    """By name, as in ``VERSUS``."""
    return dict(zip(VERSUS, (curves.reward_minus_vote, curves.reward_minus_random), strict=True))


def title(results: BestOfNResults) -> str:
    """What was measured of whom."""
    return (
        f"{results.benchmark}: {results.model}, re-ranked by {results.reward_model}"
        f" ({MEASURES[results.measure]})"
    )


def notes(results: BestOfNResults) -> Iterator[str]:
    """What a reader should not overlook, one line each."""
    overall = results.overall
    if overall is None:
        yield "No score: no question has rewards for all its samples"
    elif overall.greedy is not None:
        greedy = overall.greedy
        yield f"Greedy, one answer: {percent(greedy.score)} {bracket(greedy.ci95)}"
    yield from (f"Partial: {reason}" for reason in results.partial_reasons)


def _cell(curves: Curves, method: Method, place: int) -> str:
    point = curves.curves[method][place]
    return f"{percent(point.score)} {bracket(point.ci95)}"


def _gain(found: Difference | None) -> tuple[str, str, str]:
    if found is None:
        return NOTHING, NOTHING, NOTHING
    return signed(100 * found.difference, 1), bracket(found.ci95), decimal(found.p, 4)
