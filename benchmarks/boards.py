"""Boards: scores as trees of means, with bootstrap intervals and paired tests for each of them.

A leaf holds one value a group; a node is the weighted mean of its children. RewardBench's overall
score, for example, is a mean of sections, each a prompt-weighted mean of subsets, each a leaf of
wins. Since every score is linear in the values of the groups, one resampling and one sign-flip test
serve all benchmarks, and the difference of two models is a tree of differences.

Pure; knows no benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foundation.statistics import RESAMPLES, Interval

Values = NDArray[np.float64]

DRAWS_AT_ONCE = 1 << 21
"""Counts of a resampling that are in memory together."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The values of some groups, in the order of the data. Shape (groups,), at least one."""

    values: tuple[float, ...]
    numbers: tuple[int, ...] = ()
    """Places of the groups in the data, for whoever pairs two models."""

    def __post_init__(self) -> None:
        assert self.values, "a leaf without values has no mean: leave it out"


@dataclass(frozen=True, slots=True)
class Node:
    """A weighted mean of children, at least one. A weight counts only beside the others."""

    children: Mapping[str, Tree]
    weights: Mapping[str, float] = field(default_factory=dict)
    """By name of the child; 1 for one that is not named."""

    def __post_init__(self) -> None:
        assert self.children, "a node without children has no mean: leave it out"

    def weight(self, name: str) -> float:
        return self.weights.get(name, 1.0)


Tree = Leaf | Node


@dataclass(frozen=True, slots=True)
class Board:
    """All scores of one benchmark."""

    overall: Tree
    sections: Mapping[str, Tree]
    subsets: Mapping[str, Tree]
    missing: tuple[str, ...] = ()
    """Parts that the benchmark has and these scores lack: the overall score goes without them."""

    alternatives: Mapping[str, Mapping[str, Tree]] = field(default_factory=dict)
    """The same groups under other published rules: name of the rule, name of the score, tree."""


def mean(tree: Tree) -> float:
    """The score of a tree."""
    if isinstance(tree, Leaf):
        return float(np.mean(tree.values))
    total = sum(tree.weight(name) for name in tree.children)
    return sum(tree.weight(name) * mean(child) for name, child in tree.children.items()) / total


def size(tree: Tree) -> int:
    """The groups behind a score."""
    if isinstance(tree, Leaf):
        return len(tree.values)
    return sum(map(size, tree.children.values()))


def interval(tree: Tree, *, seed: int, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap of a score (Efron 1979), stratified: each leaf is resampled by itself.

    Args:
        tree: what is scored.
        seed: of the resampling; same seed, same interval.
        confidence: share of the resampled scores inside the interval.
    """
    scores_R = _resampled(tree, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores_R, [tail, 1 - tail])
    return Interval(float(low), float(high))


def difference(after: Tree, before: Tree) -> Tree:
    """The tree whose score is that of ``after`` minus that of ``before``, group by group.

    Raises:
        ValueError: if the two are not of the same form over the same groups.
    """
    if isinstance(after, Leaf) and isinstance(before, Leaf):
        if after.numbers != before.numbers or len(after.values) != len(before.values):
            raise ValueError("the two scores are not of the same groups")
        gains = (a - b for a, b in zip(after.values, before.values, strict=True))
        return Leaf(tuple(gains), after.numbers)
    if isinstance(after, Node) and isinstance(before, Node):
        if after.children.keys() != before.children.keys() or after.weights != before.weights:
            raise ValueError("the two scores are not means of the same parts")
        return Node(
            {
                name: difference(child, before.children[name])
                for name, child in after.children.items()
            },
            after.weights,
        )
    raise ValueError("the two scores are not of the same form")


def sign_flip_p(tree: Tree, *, seed: int) -> float:
    """Two-sided p-value that a tree of differences is zero (Fisher's randomisation test).

    Under the null hypothesis each group's difference is as likely to have the other sign. Estimated
    from ``RESAMPLES`` draws, the observed one counted among them, so never below 1/(RESAMPLES + 1).

    Args:
        tree: differences, from :func:`difference`.
        seed: of the draws.
    """
    observed = abs(mean(tree))
    flipped_R = _flipped(tree, np.random.default_rng(seed))
    as_extreme = int(np.count_nonzero(np.abs(flipped_R) >= observed - 1e-12))
    return (as_extreme + 1) / (RESAMPLES + 1)


def _resampled(tree: Tree, generator: np.random.Generator) -> Values:
    if isinstance(tree, Leaf):
        return _resampled_means(tree.values, generator)
    return _combine(tree, [_resampled(child, generator) for child in tree.children.values()])


def _resampled_means(values: Sequence[float], generator: np.random.Generator) -> Values:
    """The means of ``RESAMPLES`` samples with replacement, each of as many values as there are.

    How often each distinct value is drawn is multinomial, so that wins and losses cost a draw each
    and not one a group.
    """
    distinct_V, counts_V = np.unique(values, return_counts=True)
    rows = max(1, DRAWS_AT_ONCE // len(distinct_V))
    sums = [
        generator.multinomial(len(values), counts_V / len(values), size=min(rows, RESAMPLES - done))
        @ distinct_V
        for done in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(sums) / len(values)


def _flipped(tree: Tree, generator: np.random.Generator) -> Values:
    if isinstance(tree, Node):
        return _combine(tree, [_flipped(child, generator) for child in tree.children.values()])
    sizes, counts = np.unique(np.abs(tree.values), return_counts=True)
    sums_R = np.zeros(RESAMPLES)
    for value, count in zip(sizes, counts, strict=True):
        # The sum of `count` random signs is 2 B - count with B binomial.
        sums_R += value * (2 * generator.binomial(int(count), 0.5, size=RESAMPLES) - count)
    return sums_R / len(tree.values)


def _combine(node: Node, scores: Sequence[Values]) -> Values:
    weights = [node.weight(name) for name in node.children]
    combined: Values = np.average(np.stack(scores), axis=0, weights=weights)
    return combined
