"""Scored groups made up for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from benchmarks.scored import ScoredGroup


def scored(
    subset: str,
    rewards: Sequence[float | None],
    *,
    ranks: Sequence[int] = (),
    name: str = "",
    number: int = 0,
    details: dict[str, object] | None = None,
) -> ScoredGroup:
    """A group whose first candidate is the chosen one, unless ``ranks`` says otherwise."""
    return ScoredGroup(
        number=number,
        id=name,
        subset=subset,
        digest="",
        ranks=tuple(ranks) or (1, *[2] * (len(rewards) - 1)),
        rewards=tuple(rewards),
        errors=tuple("internal: no reward" if r is None else None for r in rewards),
        details=details or {},
    )


WON, LOST, EQUAL, FAILED = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (None, 1.0)


def pairs(subset: str, *, won: int = 0, lost: int = 0, equal: int = 0) -> list[ScoredGroup]:
    """Pairs that a model won, lost and could not tell apart."""
    return [scored(subset, rewards) for rewards in [WON] * won + [LOST] * lost + [EQUAL] * equal]


def numbered(groups: Iterable[ScoredGroup]) -> list[ScoredGroup]:
    """The same groups, counted from 0 as a reader would."""
    numbers = count()
    return [
        scored(
            g.subset,
            g.rewards,
            ranks=g.ranks,
            name=g.id,
            number=next(numbers),
            details=dict(g.details),
        )
        for g in groups
    ]
