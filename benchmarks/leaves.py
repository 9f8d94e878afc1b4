"""From scored groups to the leaves of a board. Pure.

Shared by the rules of the reward benchmarks, which differ in what a group is worth and in how its
subset is weighted, not in how groups are sorted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from benchmarks.boards import Leaf, Node, Tree
from benchmarks.errors import BenchmarkError, NothingScored
from benchmarks.scored import ScoredGroup

Value = Callable[[ScoredGroup], float]
"""What a group is worth, between 0 and 1."""


def usable(groups: Iterable[ScoredGroup]) -> list[ScoredGroup]:
    """The groups that can be in a score: all candidates have rewards, and one ought to win."""
    return [group for group in groups if group.is_scored and len(set(group.ranks)) > 1]


def by_subset(
    groups: Iterable[ScoredGroup], known: Collection[str], *, benchmark: str
) -> dict[str, list[ScoredGroup]]:
    """The groups of each subset, subsets in the order of ``known`` and groups in their own.

    Names match whatever their case and whether spaces, ``-`` or ``_`` stand between their words. A
    subset without groups is left out.

    Raises:
        BenchmarkError: naming the subsets that ``benchmark`` does not have.
    """
    names = {_folded(name): name for name in known}
    found: dict[str, list[ScoredGroup]] = {name: [] for name in known}
    strangers = set()
    for group in groups:
        name = names.get(_folded(group.subset))
        if name is None:
            strangers.add(group.subset)
        else:
            found[name].append(group)
    if strangers:
        raise BenchmarkError(
            f"subset: {benchmark} has no {', '.join(map(repr, sorted(strangers)))}; its subsets are"
            f" {', '.join(known)}: check the data, or score it as plain pairs"
        )
    return {name: members for name, members in found.items() if members}


def leaf(groups: Sequence[ScoredGroup], value: Value) -> Leaf:
    """The values of some groups, at least one."""
    return Leaf(tuple(map(value, groups)), tuple(group.number for group in groups))


def plain_mean(parts: Mapping[str, Tree], *, benchmark: str) -> Node:
    """The unweighted mean of parts.

    Raises:
        NothingScored: if there are none.
    """
    if not parts:
        raise NothingScored(f"{benchmark}: no group is scored, so there is no score to compute")
    return Node(parts)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()
