"""Intervals from held-out evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def bootstrap_mean(values: ArrayLike, *, seed: int, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap of the mean (Efron 1979), one value a question.

    For a paired comparison give the per-question differences, or per-question wins in [0, 1].

    Args:
        values: shape (questions,), at least one.
        seed: of the resampling; same seed, same interval.
        confidence: share of the resampled means inside the interval.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    values_Q = np.asarray(values, dtype=np.float64)
    if values_Q.ndim != 1 or not values_Q.size or not np.isfinite(values_Q).all():
        raise ValueError(f"bootstrap needs a list of finite numbers, got shape {values_Q.shape}")
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            generator.choice(values_Q, size=(1_000, values_Q.size)).mean(axis=1)
            for _ in range(RESAMPLES // 1_000)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))
