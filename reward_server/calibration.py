"""Rewards seen against a reference set: an artefact made once, then served beside its model.

A raw reward has no unit: 3.1 of one model says nothing about 3.1 of another. A calibration keeps
how the rewards of a reference set were spread, so a server can say where a reward stands among
them: deviations from the mean, percentile, probability of beating a response of the set.

Promises, each held by a test: every view rises with the reward; what is loaded is what was saved;
an artefact of another reward model is refused. Of more than ``GRID_POINTS`` rewards it keeps
evenly spaced ranks, which moves no percentile by more than 0.05 and no probability by more than
0.0005. Knows no model, no server and no conversation; imports no torch.
"""

from __future__ import annotations

import json
import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from foundation.cache import content_key
from foundation.errors import UserError
from foundation.settings import Settings, SettingsError, check
from reward_server.errors import ServerStartError
from reward_server.protocol import Calibrated

GRID_POINTS = 1001
"""Numbers that stand for a distribution at most: some 20 kB of JSON, a view in microseconds."""

LARGEST = sys.float_info.max

Floats = NDArray[np.float64]


class CalibrationError(UserError):
    """No calibration or canary can be made of what was scored. The message says why."""


class Artefact(Settings):
    """A JSON file that belongs to one reward model and is named by a hash of its content."""

    kind: ClassVar[str]
    """What messages call it."""

    format: Literal[1] = 1
    """Version of the file's layout."""

    fingerprint: str = Field(min_length=1)
    """Fingerprint of the reward model that it was made for."""

    @cached_property
    def id(self) -> str:
        """16 hex digits over all fields; equal ids, equal artefacts."""
        return content_key(self.model_dump(mode="json"))

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        content = {"id": self.id, **self.model_dump(mode="json")}
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            ServerStartError: if the file is missing, malformed, of another version, or was changed.
        """
        content = cls._read(path)
        stated = content.pop("id", None)
        try:
            artefact = check(cls, content, source=f"{cls.kind}: {path}")
        except SettingsError as error:
            raise ServerStartError(f"{error}; make it again with `medpref calibrate`") from None
        if stated != artefact.id:
            raise ServerStartError(
                f"{cls.kind}: {path}: id: {stated!r}, but the content is that of {artefact.id!r}: "
                "the file was changed; make it again with `medpref calibrate`"
            )
        return artefact

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ServerStartError(
                f"{cls.kind}: {path}: no such file; make one with `medpref calibrate`"
            ) from None
        except (OSError, ValueError) as error:
            raise ServerStartError(f"{cls.kind}: {path}: cannot be read as JSON: {error}") from None
        if not isinstance(content, dict):
            raise ServerStartError(f"{cls.kind}: {path}: expected a JSON object; give another file")
        return content


def require(artefact: Artefact, fingerprint: str) -> None:
    """Refuses an artefact of another reward model than the one with ``fingerprint``.

    Raises:
        ServerStartError: naming both fingerprints and the fix.
    """
    if artefact.fingerprint != fingerprint:
        raise ServerStartError(
            f"{artefact.kind}: made for the reward model {artefact.fingerprint}, but served is "
            f"{fingerprint}; make one for it with `medpref calibrate`"
        )


class Reference(Settings):
    """Which responses the rewards of a calibration were given to."""

    name: str
    """What people call the set."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Digest of its content in hex."""

    size: int = Field(ge=2)
    """Rewards that it gave."""


class Calibration(Artefact):
    """How the rewards of a reference set were spread."""

    kind: ClassVar[str] = "calibration"

    reference: Reference

    rewards: tuple[FiniteFloat, ...]
    """The reference rewards in rising order, or their grid as of :func:`condense`."""

    lengths: tuple[NonNegativeInt, ...]
    """The lengths of the scored inputs in tokens, in rising order, or their grid."""

    mean: FiniteFloat
    standard_deviation: FiniteFloat = Field(gt=0)
    """Of a sample, n - 1 in the denominator."""

    length_slope: FiniteFloat | None
    """Least-squares slope of reward on length, in reward a token; ``null`` where all lengths are
    equal."""

    length_correlation: FiniteFloat | None = Field(ge=-1, le=1)
    """Pearson correlation of reward and length."""

    @model_validator(mode="after")
    def _is_a_distribution(self) -> Self:
        for name, values in (("rewards", self.rewards), ("lengths", self.lengths)):
            if not 2 <= len(values) <= GRID_POINTS:
                raise ValueError(f"{name}: {len(values)} numbers; there are 2 to {GRID_POINTS}")
            if any(before > after for before, after in pairwise(values)):
                raise ValueError(f"{name}: not in rising order")
        return self

    @cached_property
    def rewards_G(self) -> Floats:
        """``rewards`` as an array."""
        return np.array(self.rewards)

    def view(self, reward: float) -> Calibrated:
        """Where a finite reward stands; every number rises with it, or stays."""
        z_score = (reward - self.mean) / self.standard_deviation
        return Calibrated(
            artefact=self.id,
            z_score=min(max(z_score, -LARGEST), LARGEST),
            percentile=self._percentile(reward),
            win_probability=self._win_probability(reward),
        )

    def _percentile(self, reward: float) -> float:
        """Share of rewards below plus half the share of equal ones, in percent."""
        below, up_to = bisect_left(self.rewards, reward), bisect_right(self.rewards, reward)
        return 50 * (below + up_to) / len(self.rewards)

    def _win_probability(self, reward: float) -> float:
        """Mean of sigmoid(reward - r) over the reference rewards r.

        Bradley and Terry (1952): the better of two is chosen with the sigmoid of the difference of
        their strengths, which is what reward models with one logit are trained on. For rewards on
        another scale, such as a judge's marks, it is a rising number and no frequency.
        """
        with np.errstate(
            over="ignore"
        ):  # exp past the largest float: that response is never beaten
            return float((1 / (1 + np.exp(self.rewards_G - reward))).mean())


def fit(
    rewards: Sequence[float],
    lengths: Sequence[int],
    *,
    fingerprint: str,
    name: str,
    sha256: str,
) -> Calibration:
    """The calibration of a reward model on a reference set.

    Args:
        rewards: raw rewards, one a scored candidate.
        lengths: tokens of the same inputs: conversation, candidate and template.
        fingerprint: of the reward model that gave the rewards.
        name: what people call the reference set.
        sha256: digest of the reference set's content, 64 hex digits.

    Raises:
        CalibrationError: if a reward is not finite, fewer than two differ, there is not one length
            a reward, or the rewards have no standard deviation that a float can hold.
    """
    if len(rewards) != len(lengths):
        raise CalibrationError(
            f"lengths: {len(lengths)} for {len(rewards)} rewards; give one a reward"
        )
    rewards_N = np.asarray(rewards, dtype=np.float64)
    lengths_N = np.asarray(lengths, dtype=np.int64)
    mean, deviation = _moments(rewards_N)
    trend = length_trend(rewards_N, lengths_N)
    return Calibration(
        fingerprint=fingerprint,
        reference=Reference(name=name, sha256=sha256, size=len(rewards)),
        rewards=tuple(condense(rewards_N).tolist()),
        lengths=tuple(condense(lengths_N).tolist()),
        mean=mean,
        standard_deviation=deviation,
        length_slope=trend.slope,
        length_correlation=trend.correlation,
    )


def _moments(rewards_N: Floats) -> tuple[float, float]:
    strange = np.flatnonzero(~np.isfinite(rewards_N))
    if strange.size:
        raise CalibrationError(
            f"rewards[{strange[0]}]: {rewards_N[strange[0]]} is not finite; leave it out"
        )
    distinct = np.unique(rewards_N).size
    if distinct < 2:
        raise CalibrationError(
            f"rewards: {distinct} distinct among {rewards_N.size}, at least 2 are needed; "
            "score more and different candidates"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(rewards_N.mean()), float(rewards_N.std(ddof=1))
    if not (math.isfinite(mean) and 0 < deviation < math.inf):
        raise CalibrationError(
            f"rewards: from {rewards_N.min():g} to {rewards_N.max():g} have no standard deviation "
            "that a float can hold; scale them"
        )
    return mean, deviation


def condense(values_N: NDArray[Any]) -> NDArray[Any]:
    """The values in rising order; of more than ``GRID_POINTS``, that many evenly spaced ranks.

    Point i of G is the value of rank floor((i + 1/2) n / G), counted from 0. So for every x the
    shares of points and of values below x differ by at most 1 / 2G, and the same holds for those
    up to x; the mean of a function that rises from 0 to 1 moves by no more.
    """
    ordered_N = np.sort(values_N)
    count = ordered_N.size
    if count <= GRID_POINTS:
        return ordered_N
    ranks_G = (2 * np.arange(GRID_POINTS) + 1) * count // (2 * GRID_POINTS)
    grid_G: NDArray[Any] = ordered_N[ranks_G]
    return grid_G


@dataclass(frozen=True, slots=True)
class LengthTrend:
    """How rewards go with lengths; ``None`` where that has no answer."""

    slope: float | None
    """Least squares, in reward a token; needs lengths that differ."""

    correlation: float | None
    """Pearson's; needs rewards that differ, too."""


def length_trend(rewards_N: Floats, lengths_N: NDArray[np.int64]) -> LengthTrend:
    """Ordinary least squares of reward on length, and Pearson's correlation."""
    if _are_equal(lengths_N):
        return LengthTrend(None, None)
    if _are_equal(rewards_N):  # their mean may be a digit off, which would correlate with length
        return LengthTrend(0.0, None)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x_N, y_N = lengths_N - lengths_N.mean(), rewards_N - rewards_N.mean()
        xy, xx, yy = float(x_N @ y_N), float(x_N @ x_N), float(y_N @ y_N)
    scale = math.sqrt(xx) * math.sqrt(yy)
    correlation = _finite(xy / scale) if scale else None
    return LengthTrend(
        slope=_finite(xy / xx),
        correlation=None if correlation is None else min(max(correlation, -1.0), 1.0),
    )


def _are_equal(values_N: NDArray[Any]) -> bool:
    return bool((values_N == values_N[0]).all())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
