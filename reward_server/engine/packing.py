"""Inputs to one packed sequence: shared prefixes once, everything end to end, no padding.

Pure: no torch, no model. Promises, each held by a property test:

- walking a leaf's chain of segments from the root spells its input, token by token;
- a position is the token's place in its own input, so it never depends on neighbours;
- no token is there twice where sharing it pays, and equal inputs are there once.

Sharing is found on token ids, never on texts: a tokenizer may merge across any seam. The prefix
tree may be deep (a system prompt over conversations over candidates); a short shared run, such as
a BOS token, is not worth a segment of its own and is repeated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from reward_server.prefixes import Ids, common_prefix_length

MIN_SHARED_TOKENS = 16
"""Tokens that a shared segment must save. Below it the segment costs more than its tokens."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens that see the runs before them in the tree and, causally, themselves."""

    start: int
    """Place of the first token in the packed sequence."""

    length: int
    position: int
    """Position id of the first token: how many tokens of its inputs stand before it."""

    context: tuple[tuple[int, int], ...]
    """Start and length of the runs before it, the root's first; a run may be several segments."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One packed sequence of T tokens with S segments, made of N inputs."""

    ids: tuple[int, ...]
    """Token ids, T of them."""

    positions: tuple[int, ...]
    """Position ids, T of them."""

    segments: tuple[Segment, ...]
    """In the order of the sequence, which they cover without a gap."""

    last: tuple[int, ...]
    """For each input, the place of its last token."""

    paths: tuple[tuple[int, ...], ...]
    """For each input, the indices of its segments, the root's first."""


def pack(inputs: Sequence[Ids]) -> Packed:
    """Lays ``inputs`` end to end along their prefix tree; none may be empty."""
    builder = _Builder([tuple(ids) for ids in inputs])
    everything = sorted(range(len(inputs)), key=builder.inputs.__getitem__)
    branches = [_Branch(everything, 0, ())] if everything else []
    while branches:  # a stack, since a hostile request may nest deeper than Python recurses
        branches += builder.grow(branches.pop())
    return builder.packed()


def sharing_order(inputs: Sequence[Ids]) -> tuple[list[int], list[int]]:
    """An order that brings shared prefixes together, and what each input adds to a batch.

    Returns:
        Indices of ``inputs`` in order, and for each of them the tokens it adds when all before it
        are in the same batch.
    """
    keys = [tuple(ids) for ids in inputs]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    costs: list[int] = []
    for before, index in zip([None, *order], order, strict=False):
        shared = 0 if before is None else common_prefix_length(keys[before], keys[index])
        is_worth_it = shared >= MIN_SHARED_TOKENS or shared == len(keys[index])
        costs.append(len(keys[index]) - (shared if is_worth_it else 0))
    return order, costs


@dataclass(frozen=True, slots=True)
class _Branch:
    """Sorted inputs that agree on their first ``depth`` ids, of which ``path`` is laid out."""

    members: list[int]
    depth: int
    path: tuple[int, ...]


class _Builder:
    """Grows a packed sequence, branch by branch."""

    def __init__(self, inputs: list[tuple[int, ...]]) -> None:
        self.inputs = inputs
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._segments: list[Segment] = []
        self._last = [0] * len(inputs)
        self._paths: list[tuple[int, ...]] = [()] * len(inputs)

    def packed(self) -> Packed:
        return Packed(
            ids=tuple(self._ids),
            positions=tuple(self._positions),
            segments=tuple(self._segments),
            last=tuple(self._last),
            paths=tuple(self._paths),
        )

    def grow(self, branch: _Branch) -> list[_Branch]:
        """Lays out what the members of ``branch`` share; returns where they part."""
        first, last = self.inputs[branch.members[0]], self.inputs[branch.members[-1]]
        shared = common_prefix_length(first, last)
        saved = (shared - branch.depth) * (len(branch.members) - 1)
        members, depth, path = branch.members, branch.depth, branch.path
        if len(first) == len(last) == shared or saved >= MIN_SHARED_TOKENS:
            path = self._append(first[depth:shared], depth, path)
            depth = shared
            # Members are sorted, so those that end here come first.
            ended = bisect_right(members, shared, key=lambda member: len(self.inputs[member]))
            for member in members[:ended]:
                self._finish(member, path)
            members = members[ended:]
        return [_Branch(part, depth, path) for part in self._parted(members, shared)]

    def _parted(self, members: list[int], at: int) -> list[list[int]]:
        """Members that agree on the id at place ``at``, together."""

        def mark(member: int) -> tuple[int, ...]:
            return self.inputs[member][at : at + 1]

        parts, start = [], 0
        while start < len(members):
            end = bisect_right(members, mark(members[start]), start, key=mark)
            parts.append(members[start:end])
            start = end
        return parts

    def _append(self, ids: tuple[int, ...], depth: int, path: tuple[int, ...]) -> tuple[int, ...]:
        if not ids:
            return path
        context = self._behind(self._segments[path[-1]]) if path else ()
        self._segments.append(Segment(len(self._ids), len(ids), depth, context))
        self._ids += ids
        self._positions += range(depth, depth + len(ids))
        return (*path, len(self._segments) - 1)

    def _behind(self, parent: Segment) -> tuple[tuple[int, int], ...]:
        """The context of what follows ``parent``, with runs that adjoin made one."""
        *before, (start, length) = [*parent.context, (parent.start, parent.length)]
        if before and sum(before[-1]) == start:
            start, length = before[-1][0], before[-1][1] + length
            before.pop()
        return (*before, (start, length))

    def _finish(self, member: int, path: tuple[int, ...]) -> None:
        segment = self._segments[path[-1]]
        self._last[member] = segment.start + segment.length - 1
        self._paths[member] = path
