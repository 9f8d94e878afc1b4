"""Curves over N, from samples that have a value, a vote and a reward.

For each way of choosing one of N samples: the expected value of what is chosen, over all sets of N
out of a question's samples. Each method sees the same samples, and none sees the values.

    reward        the sample with the highest reward
    vote          a sample of the largest group with the same answer (self-consistency)
    weighted_vote the answer whose samples have the largest sum of exp(reward / temperature)
    random        any sample: the mean
    oracle        the best sample: what a perfect reward would choose

Reward, random and oracle are exact expectations, and so are votes over few sets; where there are
many, votes are means over sets drawn by seed. Pure.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from benchmarks.boards import Leaf

Method = Literal["reward", "vote", "weighted_vote", "random", "oracle"]
METHODS: tuple[Method, ...] = get_args(Method)

Weigh = Callable[[Sequence["Sample"]], list[float]]
"""What the votes of a set of samples count."""

DRAWS = 100
"""Sets behind each vote of one question, where there are more than that."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the policy."""

    value: float
    """How good it is, in [0, 1]: whether it is right, or its gold."""

    vote: str | None
    """What it answers, where that can be told; samples that answer alike vote together."""

    reward: float | None
    """``None`` where scoring failed."""


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """The samples of one question, in the order of their seeds."""

    id: str
    samples: tuple[Sample, ...]


def sizes(most: int) -> list[int]:
    """The Ns of a curve: powers of two, and the number of samples itself."""
    powers = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*powers, most]


def curves(
    questions: Sequence[SampledQuestion], *, seed: int, temperature: float = 1.0
) -> dict[Method, dict[int, Leaf]]:
    """One leaf for each method and N, with a value for each question in the order given.

    Args:
        questions: at least one, all with as many samples, each with a reward.
        seed: of the sets that votes are taken over.
        temperature: of the rewards, for the weighted vote.

    Raises:
        ValueError: if there is no question, they differ in their number of samples, or a reward is
            missing.
    """
    counts = {len(question.samples) for question in questions}
    if len(counts) != 1 or any(s.reward is None for q in questions for s in q.samples):
        raise ValueError("give questions with equally many samples, all of them with rewards")
    [count] = counts
    choose: Mapping[Method, Callable[[SampledQuestion, int], float]] = {
        "reward": lambda question, n: expected_best(question.samples, n, key=_reward),
        "vote": lambda question, n: _voted(question, n, seed, lambda samples: [1.0] * n),
        "weighted_vote": lambda question, n: _voted(
            question, n, seed, lambda samples: _softmax(samples, temperature)
        ),
        "random": lambda question, n: _mean([sample.value for sample in question.samples]),
        "oracle": lambda question, n: expected_best(
            question.samples, n, key=lambda sample: sample.value
        ),
    }
    return {
        method: {
            n: Leaf(tuple(choose[method](question, n) for question in questions))
            for n in sizes(count)
        }
        for method in METHODS
    }


def expected_best(samples: Sequence[Sample], n: int, *, key: Callable[[Sample], float]) -> float:
    """The expected value of the sample that has the highest ``key`` among ``n`` drawn at random.

    Of all sets of ``n`` out of ``m`` samples, the one that ranks k-th (from 0) is the best of
    C(m - 1 - k, n - 1): it is in the set and none before it is. Samples with equal keys share what
    falls to them, since nothing tells them apart. The estimator is that of pass@k (Chen et al.
    2021), for values other than right and wrong.
    """
    ordered = sorted(samples, key=key, reverse=True)
    sets = math.comb(len(ordered), n)
    by_key: defaultdict[float, list[float]] = defaultdict(list)
    for sample in ordered:
        by_key[key(sample)].append(sample.value)
    expected, place = 0.0, 0
    for values in by_key.values():
        share = sum(
            math.comb(len(ordered) - 1 - k, n - 1) for k in range(place, place + len(values))
        )
        expected += _mean(values) * share / sets
        place += len(values)
    return expected


def _voted(question: SampledQuestion, n: int, seed: int, weigh: Weigh) -> float:
    """The mean value of what sets of ``n`` vote for: all of them, or ``DRAWS`` where more."""
    samples = question.samples
    if math.comb(len(samples), n) <= DRAWS:
        return _mean([_winner(chosen, weigh(chosen)) for chosen in combinations(samples, n)])
    chance = random.Random(f"{seed}/{question.id}/{n}")
    drawn = (chance.sample(samples, n) for _ in range(DRAWS))
    return _mean([_winner(chosen, weigh(chosen)) for chosen in drawn])


def _winner(samples: Sequence[Sample], weights: Sequence[float]) -> float:
    """The value of the answer with the most votes; of several, of the one that was given first.

    Where nobody votes it is the value of the first sample, as if it had been the only one.
    """
    votes: defaultdict[str, float] = defaultdict(float)
    values: defaultdict[str, list[float]] = defaultdict(list)
    for sample, weight in zip(samples, weights, strict=True):
        if sample.vote is not None:
            votes[sample.vote] += weight
            values[sample.vote].append(sample.value)
    if not votes:
        return samples[0].value
    return _mean(values[max(votes, key=lambda vote: votes[vote])])


def _softmax(samples: Sequence[Sample], temperature: float) -> list[float]:
    """exp(reward / temperature) of each, but for a factor: of those that vote the highest has 1."""
    highest = max((_reward(each) for each in samples if each.vote is not None), default=0.0)
    return [math.exp(min(0.0, (_reward(each) - highest) / temperature)) for each in samples]


def _reward(sample: Sample) -> float:
    assert sample.reward is not None, "checked by curves"
    return sample.reward


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
