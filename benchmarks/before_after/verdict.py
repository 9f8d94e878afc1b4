"""What may be said of the changes, one line each: gains, losses, and whether there is a tax. Pure.

An alignment tax is a loss of general ability: what a policy could do before it was aligned, and its
alignment did not mean to touch (Ouyang et al. 2022, arXiv 2203.02155, section 3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.before_after.results import Change
from benchmarks.before_after.wording import MEASURES, bracketed, signed


def verdict(suites: Mapping[str, Change]) -> Iterator[str]:
    """Gains, then losses, then what is not known, then what became of general ability."""
    for wanted in ("gain", "loss"):
        for name, change in suites.items():
            if change.outcome == wanted:
                yield f"{wanted}: {name}: {_told(change)}"
    unclear = [name for name, change in suites.items() if change.outcome == "unclear"]
    if unclear:
        yield f"no clear change: {'; '.join(unclear)}"
    yield _tax({name: change for name, change in suites.items() if change.kind == "general"})


def _tax(general: Mapping[str, Change]) -> str:
    if not general:
        return "general ability: not measured; give --general NAME=SOURCE to see an alignment tax"
    lost = [name for name, change in general.items() if change.outcome == "loss"]
    if lost:
        return f"alignment tax: general ability was lost in {'; '.join(lost)}"
    bounds = "; ".join(f"{name} {_told(change)}" for name, change in general.items())
    return f"no alignment tax seen, as far as the intervals reach: {bounds}"


def _told(change: Change) -> str:
    measure, apart = change.measure, change.difference
    return (
        f"{MEASURES[measure].name} {signed(measure, apart.score)} {bracketed(measure, apart.ci95)}"
    )
