"""Medical RewardBench: the test pairs of UltraMedical-Preference by how hard they are. Pure.

The overall score is the unweighted mean of the four parts, and equal rewards count one half
(UltraMedical, arXiv 2406.03949, section 4 and its table of reward models: its 72.70 for Hard is
142.5 of 196, and (94.12 + 73.47 + 77.30 + 77.22) / 4 = 80.53).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from benchmarks.boards import Board, Tree
from benchmarks.leaves import by_subset, leaf, plain_mean, usable
from benchmarks.scored import ScoredGroup, Ties, win

SIZES: Mapping[str, int] = MappingProxyType({"Easy": 238, "Hard": 196, "Length": 180, "Human": 163})
"""Pairs of each part. The data's card prints the Length and Human columns of its results exchanged:
69.33 = 113/163 and 66.67 = 120/180 show that the paper has them right."""

NAME = "Medical RewardBench"


def board(groups: Sequence[ScoredGroup], *, ties: Ties = "half") -> Board:
    """All scores of Medical RewardBench.

    Args:
        groups: whose subset is the data's label, in any case (``easy``); those without all their
            rewards are left out.
        ties: what equal rewards are worth; the published rule is ``half``.

    Raises:
        BenchmarkError: naming labels that are not among the four, or if no group is scored.
    """
    parts: dict[str, Tree] = {
        name: leaf(members, partial(win, ties=ties))
        for name, members in by_subset(usable(groups), SIZES, benchmark=NAME).items()
    }
    return Board(
        overall=plain_mean(parts, benchmark=NAME),
        sections=parts,
        subsets=parts,
        missing=tuple(name for name in SIZES if name not in parts),
    )
