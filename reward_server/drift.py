"""Do the rewards and lengths of live traffic still look like those of the reference set?

A monitor is fed every scored candidate and keeps a bounded window of the latest. Feeding it costs
an append; the numbers are computed when they are read. Pure state: it owns no clock, no task and
no metric, decides nothing and raises no alarm. Where there is too little to tell from, a number is
``None``, never 0. Not for use from several threads.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reward_server.calibration import Calibration, Floats, length_trend

WINDOW = 4096
"""Candidates that are looked back on."""

LEAST_OBSERVATIONS = 250
"""Fewer say nothing. Against a reference of 1,000 rewards without any drift, the PSI of so many
over ten bins passes 0.1 by chance in one window of fifty (Yurdakul 2018: without drift it is
distributed as (1/n + 1/m) times chi-square with bins - 1 degrees of freedom)."""

QUANTILES = np.arange(1, 10) / 10
"""The reference's deciles bound the bins of the PSI."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The window beside the reference; ``None`` where there is nothing to tell from."""

    observations: int
    """Candidates in the window."""

    reward_psi: float | None = None
    """Population stability index of the rewards."""

    reward_ks: float | None = None
    """Kolmogorov-Smirnov distance of the rewards, in [0, 1]."""

    length_psi: float | None = None
    """Population stability index of the lengths; ``None`` where no model read the inputs."""

    length_slope: float | None = None
    """Reward a token in the window."""

    length_correlation: float | None = None
    """Pearson correlation of reward and length in the window."""

    reference_length_slope: float | None = None
    reference_length_correlation: float | None = None


class DriftMonitor:
    """A window of scored candidates, compared with a calibration's reference set.

    Args:
        calibration: of the model that gives the rewards.
        window: candidates that are looked back on.
        least: candidates in the window from which on there are numbers.

    Raises:
        ValueError: if ``window`` could never hold ``least``, or ``least`` is below 2.
    """

    def __init__(
        self,
        calibration: Calibration,
        *,
        window: int = WINDOW,
        least: int = LEAST_OBSERVATIONS,
    ) -> None:
        if not 2 <= least <= window:
            raise ValueError(f"window: {window} cannot hold least {least} (2 or more); widen it")
        self._calibration = calibration
        self._least = least
        self._latest: deque[tuple[float, int]] = deque(maxlen=window)
        self._reward_bins = Bins.of(calibration.rewards_G)
        lengths_G = np.array(calibration.lengths)
        self._length_bins = Bins.of(lengths_G) if lengths_G.any() else None
        self._read: Drift | None = None

    def observe(self, reward: float, tokens: int) -> None:
        """Takes in a scored candidate: its finite reward and the length of its input in tokens."""
        self._latest.append((reward, tokens))
        self._read = None

    def read(self) -> Drift:
        """The numbers of the window; computed once for as long as nothing new is observed."""
        if self._read is None:
            self._read = self._measure()
        return self._read

    def _measure(self) -> Drift:
        if len(self._latest) < self._least:
            return Drift(
                observations=len(self._latest),
                reference_length_slope=self._calibration.length_slope,
                reference_length_correlation=self._calibration.length_correlation,
            )
        rewards, lengths = zip(*self._latest, strict=True)
        rewards_N, lengths_N = np.array(rewards, dtype=np.float64), np.array(lengths)
        trend = length_trend(rewards_N, lengths_N)
        return Drift(
            observations=rewards_N.size,
            reward_psi=self._reward_bins.psi(rewards_N),
            reward_ks=ks_distance(rewards_N, self._calibration.rewards_G),
            length_psi=self._length_bins.psi(lengths_N) if self._length_bins else None,
            length_slope=trend.slope,
            length_correlation=trend.correlation,
            reference_length_slope=self._calibration.length_slope,
            reference_length_correlation=self._calibration.length_correlation,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """The bins of a reference, each up to and with its upper edge, the last without one.

    B bins with the share of the reference in each. Equal deciles fall together, so a reward that
    takes few values has few bins.
    """

    edges: NDArray[Any]
    """Upper edges, shape (B - 1,), rising."""

    shares_B: Floats

    @classmethod
    def of(cls, reference_G: NDArray[Any]) -> Self:
        """Bins between the deciles of ``reference_G``."""
        edges = np.unique(np.quantile(reference_G, QUANTILES, method="inverted_cdf"))
        return cls(edges, _shares(reference_G, edges))

    def psi(self, values_N: NDArray[Any]) -> float:
        """Population stability index of ``values_N`` against the reference.

        The sum over bins of (a - e) ln(a / e), with a and e the shares of values and reference:
        Jeffreys' divergence, as Siddiqi (Credit Risk Scorecards, 2006) uses it. By his rule of
        thumb below 0.1 is stable and above 0.25 has shifted.
        """
        actual_B = _shares(values_N, self.edges)
        return float(((actual_B - self.shares_B) * np.log(actual_B / self.shares_B)).sum())


def _shares(values_N: NDArray[Any], edges: NDArray[Any]) -> Floats:
    """Share of the values in each bin, half a value added to each: an empty bin has a logarithm."""
    bins = edges.size + 1
    counts_B = np.bincount(np.searchsorted(edges, values_N), minlength=bins)
    return np.asarray((counts_B + 0.5) / (values_N.size + 0.5 * bins), dtype=np.float64)


def ks_distance(values_N: Floats, reference_G: Floats) -> float:
    """Largest distance between two empirical distribution functions, in [0, 1].

    The two-sample statistic of Smirnov (1948), after Kolmogorov (1933). The second sample is in
    rising order.
    """
    values_N = np.sort(values_N)
    steps = np.concatenate([values_N, reference_G])
    of_values = np.searchsorted(values_N, steps, side="right") / values_N.size
    of_reference = np.searchsorted(reference_G, steps, side="right") / reference_G.size
    return float(np.abs(of_values - of_reference).max())
