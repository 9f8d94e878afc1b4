"""Whether rewards are right: compared with each other, and with a float32 forward. Pure.

In float32 a method must give the float32 rewards to a thousandth of their spread. In bfloat16 even
the plain forward of one input at a time is off, by rounding alone; a method may be off a few times
as far, since every order of summation rounds in another way, but no further. Whoever shares
prefixes wrongly, cuts inputs or squashes the logit is off by much more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EXACT = 1e-3
"""Deviation that any method may have, in standard deviations of the rewards."""

TIMES_PLAIN = 4.0
"""Deviation that a method may have, in deviations of the plain forward of the same precision."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Rewards of a sample of inputs, the first ones of the first repetition."""

    float32: Sequence[float]
    plain: Sequence[float]
    """By the plain forward in the precision that is measured, one input at a time."""

    @property
    def plain_error(self) -> float:
        """How far the plain forward is off at most."""
        return max_abs_diff(self.plain, self.float32)

    @property
    def tolerance(self) -> float:
        """How far a method may be off at most."""
        spread = float(np.std(np.asarray(self.float32, dtype=float)))
        return TIMES_PLAIN * self.plain_error + EXACT * spread

    def error(self, rewards: Sequence[float]) -> float:
        """How far a method's rewards are off at most; NaN where one is missing."""
        return max_abs_diff(rewards[: len(self.float32)], self.float32)

    def complaint(self, rewards: Sequence[float]) -> str | None:
        """Why the rewards do not count, or ``None`` where they do."""
        error = self.error(rewards)
        if error <= self.tolerance:  # also false for NaN
            return None
        return (
            f"rewards are off by {error:.3g} from a float32 forward, tolerance "
            f"{self.tolerance:.3g}: a wrong method does not count"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two methods on the same inputs."""

    max_abs_diff: float
    rank_agreement: float
    """Share of candidate pairs that both put in the same order; 1 where there is none."""


def agreements(rewards: Mapping[str, Sequence[float]], *, candidates: int) -> dict[str, Agreement]:
    """Every two methods compared, keys ``one~other``.

    Args:
        rewards: by method, all over the same inputs in the same order.
        candidates: of one group; ranks are compared inside groups, among all inputs where a group
            is one candidate.
    """
    return {
        f"{one}~{other}": Agreement(
            max_abs_diff(rewards[one], rewards[other]),
            rank_agreement(rewards[one], rewards[other], candidates=candidates),
        )
        for one, other in combinations(rewards, 2)
    }


def max_abs_diff(one: ArrayLike, other: ArrayLike) -> float:
    """Largest difference; NaN where a reward is."""
    return float(np.max(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float))))


def rank_agreement(one: Sequence[float], other: Sequence[float], *, candidates: int) -> float:
    """Share of the pairs inside groups that both order alike; a tie of one is half a pair."""
    width = candidates if candidates > 1 else len(one)
    left, right = np.reshape(one, (-1, width)), np.reshape(other, (-1, width))
    first, second = np.triu_indices(width, k=1)
    if not len(first):
        return 1.0
    signs: Array = np.sign(left[:, first] - left[:, second])
    others: Array = np.sign(right[:, first] - right[:, second])
    return float(np.mean(1 - np.abs(signs - others) / 2))
