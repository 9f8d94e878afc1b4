"""Controls: what a reward model's score has to be seen beside.

A rule that looks at lengths only, the score by whether the better answer is the longer one, what a
margin is worth as a probability, and how much rewards move when a group is asked in another
company. Pure; groups without a reward for every candidate are left out everywhere, so that a
control is of the same groups as the score beside it. Knows no benchmark and no endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Calibration, CalibrationBin, LengthBucket, Sensitivity
from benchmarks.scored import ScoredGroup, Ties, win

Values = NDArray[np.float64]

ABOUT = 1.1
"""Lengths whose ratio is smaller are about the same."""

BUCKETS = ("shorter_by_2x", "shorter", "as_long", "longer", "longer_by_2x")
BINS = 10
HALVINGS = 200
"""Of the bracket around the best temperature: more than a float has digits."""


def longer_wins(groups: Iterable[ScoredGroup]) -> tuple[ScoredGroup, ...]:
    """The groups as a rule would score them whose reward is the candidate's length in characters.

    A benchmark's own board of them gives the score of the rule, equal lengths worth a half where
    the benchmark lets equal rewards be. Groups whose lengths are not known are left out.
    """
    return tuple(
        replace(group, rewards=tuple(map(float, group.characters)))
        for group in groups
        if group.is_scored and group.characters is not None
    )


def by_length(groups: Iterable[ScoredGroup], ties: Ties) -> tuple[LengthBucket, ...] | None:
    """Shares won by whether, and how far, the chosen candidate is the longer one.

    Of a group with more than two candidates the mean lengths of the chosen and of all others are
    compared. ``None`` where no length is known.

    Args:
        groups: scored groups; those whose ranks are all equal are left out.
        ties: what equal rewards are worth.
    """
    shares: dict[str, list[float]] = {name: [] for name in BUCKETS}
    for group in groups:
        if group.is_scored and group.characters is not None and group.rejected:
            shares[_bucket(*_lengths(group))].append(win(group, ties))
    if not any(shares.values()):
        return None
    return tuple(
        LengthBucket(name=name, n=len(won), score=math.fsum(won) / len(won) if won else None)
        for name, won in shares.items()
    )


def calibration(groups: Iterable[ScoredGroup]) -> Calibration | None:
    """How well sigmoid(margin) predicts who wins (Guo et al., 2017, for pairs).

    Since the data name the chosen candidate first, a probability is read from the side of the
    higher reward, where it is 1/2 or more, against whether that candidate is the chosen one; equal
    rewards are right by half. Log loss and Brier score are the same from either side. A group with
    several pairs counts once in all: each of its pairs has an equal share.

    Returns:
        ``None`` where there is no pair.
    """
    pairs = _pairs(groups)
    if not pairs.margins.size:
        return None
    probabilities, hits = _sigmoid(np.abs(pairs.margins)), (np.sign(pairs.margins) + 1) / 2
    bins = tuple(_bins(pairs, probabilities, hits))
    return Calibration(
        expected_error=_expected_error(pairs, probabilities, hits),
        log_loss=float(np.average(np.logaddexp(0, -pairs.margins), weights=pairs.weights)),
        brier=float(np.average(_sigmoid(-pairs.margins) ** 2, weights=pairs.weights)),
        temperature=_best_temperature(pairs),
        bins=bins,
    )


def sensitivity(before: Iterable[ScoredGroup], after: Iterable[ScoredGroup]) -> Sensitivity:
    """How rewards differ between two askings of the same groups.

    Args:
        before: one asking.
        after: the other, rewards along the same candidates in the same order. Groups are the same
            by their number; one that is not scored in both is left out.

    Raises:
        ValueError: if a group has not as many candidates in both.
    """
    others = {group.number: group.finite_rewards for group in after if group.is_scored}
    pairs = [
        (group.finite_rewards, others[group.number])
        for group in before
        if group.is_scored and group.number in others
    ]
    changes = [abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True)]
    return Sensitivity(
        n=len(pairs),
        largest_change=max(changes, default=None),
        changed_order=sum(_order(one) != _order(two) for one, two in pairs),
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Chosen against rejected: margin, share of its group, and the group's place. (pairs,) each."""

    margins: Values
    weights: Values
    groups: NDArray[np.int64]


def _pairs(groups: Iterable[ScoredGroup]) -> _Pairs:
    margins: list[float] = []
    weights: list[float] = []
    owners: list[int] = []
    for place, group in enumerate(group for group in groups if group.is_scored):
        found = _margins(group)
        margins += found
        weights += [1 / len(found) for _ in found]
        owners += [place] * len(found)
    return _Pairs(np.array(margins), np.array(weights), np.array(owners, dtype=np.int64))


def _margins(group: ScoredGroup) -> list[float]:
    ranked = list(zip(group.ranks, group.finite_rewards, strict=True))
    return [b - w for better, b in ranked for worse, w in ranked if better < worse]


def _bins(pairs: _Pairs, probabilities: Values, hits: Values) -> Iterable[CalibrationBin]:
    edges = np.linspace(0.5, 1.0, BINS + 1)
    places = _places(probabilities)
    for place in range(BINS):
        inside = places == place
        weights = pairs.weights[inside]
        filled = bool(inside.any())
        yield CalibrationBin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            n=len(np.unique(pairs.groups[inside])),
            mean_probability=_average(probabilities[inside], weights) if filled else None,
            accuracy=_average(hits[inside], weights) if filled else None,
        )


def _expected_error(pairs: _Pairs, probabilities: Values, hits: Values) -> float:
    gaps = np.bincount(_places(probabilities), pairs.weights * (probabilities - hits), BINS)
    return float(np.abs(gaps).sum() / pairs.weights.sum())


def _places(probabilities: Values) -> NDArray[np.int64]:
    places: NDArray[np.int64] = ((probabilities - 0.5) * 2 * BINS).astype(np.int64)
    return np.minimum(places, BINS - 1)


def _average(values: Values, weights: Values) -> float:
    return float(np.average(values, weights=weights))


def _best_temperature(pairs: _Pairs) -> float | None:
    """Where the slope of the log loss over 1 / temperature, which only rises, is zero.

    There is none where the rewards are never wrong (the sharper the better) or not more often right
    than wrong in sum (the flatter the better).
    """
    largest = float(np.abs(pairs.margins).max())
    if not (pairs.margins < 0).any() or _average(pairs.margins, pairs.weights) <= 0:
        return None
    margins = pairs.margins / largest
    low, high = 0.0, 1.0
    while _slope(margins, pairs.weights, high) < 0:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _slope(margins, pairs.weights, middle) < 0:
            low = middle
        else:
            high = middle
    return largest / high


def _slope(margins: Values, weights: Values, sharpness: float) -> float:
    return _average(-margins * _sigmoid(-sharpness * margins), weights)


def _sigmoid(values: Values) -> Values:
    probabilities: Values = np.exp(-np.logaddexp(0, -values))
    return probabilities


def _lengths(group: ScoredGroup) -> tuple[float, float]:
    """Mean lengths of the chosen candidates and of the others."""
    assert group.characters is not None, "asked of groups with lengths only"
    ranked = list(zip(group.ranks, group.characters, strict=True))
    return (
        _mean([length for rank, length in ranked if rank == 1]),
        _mean([length for rank, length in ranked if rank > 1]),
    )


def _mean(lengths: Sequence[int]) -> float:
    return sum(lengths) / len(lengths)


def _bucket(chosen: float, rejected: float) -> str:
    shorter, longer = sorted((chosen, rejected))
    if longer <= ABOUT * shorter:
        return "as_long"
    name = "longer" if chosen > rejected else "shorter"
    return f"{name}_by_2x" if longer >= 2 * shorter else name


def _order(rewards: Sequence[float]) -> list[int]:
    """Places of the candidates from the lowest reward, equal ones sharing theirs."""
    places = {reward: place for place, reward in enumerate(sorted(set(rewards)))}
    return [places[reward] for reward in rewards]
