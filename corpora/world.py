"""A world: everything a run needs from its data, behind one face.

A world gives the questions of each purpose, split so that no question serves two purposes; the
demonstrations that a base policy is trained on; the pairs that a reward model is trained on; and,
where the truth is known, the gold measure that the loop itself is not allowed to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from corpora.conversation import Conversation
from corpora.preference import Pair


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that waits for candidates. ``id`` is stable and unique within its world."""

    id: str
    conversation: Conversation
    reference: str | None = None
    """The answer that a person or a book gave, where the data has one."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation with the response that supervised fine-tuning imitates."""

    conversation: Conversation
    response: str


@dataclass(frozen=True, slots=True)
class RewardPairs:
    """Pairs for a reward model. The two parts share no question."""

    train: Sequence[Pair]
    heldout: Sequence[Pair]


class World(Protocol):
    """Data of a run. Every method is deterministic: same world and seed, same answer."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """Hash over everything this world gives: content and seed."""
        ...

    def demonstrations(self) -> Sequence[Demonstration]:
        """What a base policy is trained on; empty where the world has none."""
        ...

    def round_questions(self, round_number: int, count: int) -> Sequence[Question]:
        """Questions of one round, counted from 1; walks the pool, wraps when it is used up."""
        ...

    def heldout_questions(self, count: int) -> Sequence[Question]:
        """The first ``count`` questions that no training ever sees."""
        ...

    def reward_questions(self, count: int) -> Sequence[Question]:
        """Questions that the base policy answers before reward pairs can be made.

        Empty where :meth:`reward_pairs` needs no samples.
        """
        ...

    def reward_pairs(self, samples: Mapping[str, Sequence[str]]) -> RewardPairs:
        """Pairs for the reward model; ``samples`` maps question ids to base policy answers."""
        ...

    def gold(self, question: Question, answer: str) -> float | None:
        """The independent measure in [0, 1]; ``None`` where the truth is not known."""
        ...
