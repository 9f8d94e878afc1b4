"""Any preference pairs or ranked groups, without a published rule of their own. Pure.

A group is worth the share of its ordered pairs that the rewards order the same way; for a pair,
whether it was won. The overall score is the mean over groups (micro); the mean of subsets (macro)
stands beside it, since published tables have either.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.boards import Board, Node, Tree
from benchmarks.errors import NothingScored
from benchmarks.leaves import leaf, usable
from benchmarks.scored import ScoredGroup, Ties, win

UNNAMED = "unnamed"
"""Groups without a subset, where others have one."""


def board(groups: Sequence[ScoredGroup], *, ties: Ties = "loss") -> Board:
    """The scores of any set: overall, and by subset where the data has some.

    Args:
        groups: those that the data itself calls a tie, or without all their rewards, are left out.
        ties: what equal rewards are worth.

    Raises:
        NothingScored: if no group is scored.
    """
    scored = usable(groups)
    if not scored:
        raise NothingScored("no group is scored, so there is no score to compute")
    value = partial(win, ties=ties)
    names = dict.fromkeys(group.subset for group in scored)
    subsets: dict[str, Tree] = {
        name or UNNAMED: leaf([group for group in scored if group.subset == name], value)
        for name in names
        if names.keys() != {""}
    }
    macro = {"mean_of_subsets": {"overall": Node(subsets)}} if len(subsets) > 1 else {}
    return Board(overall=leaf(scored, value), sections=subsets, subsets=subsets, alternatives=macro)
