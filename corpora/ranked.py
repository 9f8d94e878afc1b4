"""Ranked groups: conversations whose candidates somebody has put in order.

A preference pair, RewardBench 2's one right answer among four and RM-Bench's three against three
are all groups with ranks. Readers of the published layouts are in ``corpora/rankings``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from corpora.conversation import Conversation
from corpora.errors import CorpusError


@dataclass(frozen=True, slots=True)
class RankedGroup:
    """A conversation with its candidates and their ranks.

    Raises:
        CorpusError: if there are not as many ranks as candidates, fewer than two candidates, or
            no candidate of rank 1.
    """

    id: str
    """The data's own name for it. Not every published set keeps them unique."""

    conversation: Conversation
    candidates: tuple[str, ...]
    ranks: tuple[int, ...]
    """Of each candidate, 1 for the best. Equal ranks are a tie."""

    subset: str = ""
    """The part of a benchmark that it belongs to."""

    details: Mapping[str, object] = field(default_factory=dict)
    """What else the record says that results should carry on: who wrote the candidates, …"""

    def __post_init__(self) -> None:
        if len(self.candidates) != len(self.ranks):
            raise CorpusError(
                f"ranks: {len(self.ranks)} for {len(self.candidates)} candidates; give one for each"
            )
        if len(self.candidates) < 2:
            raise CorpusError("candidates: fewer than two; there is nothing to rank")
        if min(self.ranks) != 1:
            raise CorpusError(f"ranks: the best is {min(self.ranks)}; count them from 1")

    @classmethod
    def pair(
        cls,
        name: str,
        conversation: Conversation,
        chosen: str,
        rejected: str,
        *,
        subset: str = "",
        details: Mapping[str, object] | None = None,
    ) -> RankedGroup:
        """One preference: the chosen candidate first."""
        return cls(name, conversation, (chosen, rejected), (1, 2), subset, details or {})

    @property
    def is_tie(self) -> bool:
        """Whether no candidate is better than another."""
        return len(set(self.ranks)) == 1

    @property
    def digest(self) -> str:
        """16 hex digits over conversation and candidates: what was scored, whatever its id."""
        content = [self.conversation.to_dicts(), self.candidates]
        canonical = json.dumps(content, ensure_ascii=True)  # half a surrogate pair must not fail
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
