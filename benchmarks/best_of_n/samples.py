"""A question with the policy's samples, each worth something, and who has such questions.

Samples are kept by whoever had them drawn; here they are read again and again, one question at a
time, so that memory never holds all texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

from benchmarks.boards import Board
from corpora.conversation import Conversation
from policy.client import AsyncPolicyClient

Measure = Literal["accuracy", "gold"]
"""What the value of a sample is: whether it is right, or a world's gold."""


@dataclass(frozen=True)
class Drawn:
    """One question that the policy was asked. Sequences run along the samples, by their seeds."""

    section: str
    """Under which name tables have it."""

    id: str
    """Unique among all questions of the evaluation."""

    conversation: Conversation
    """What the policy was asked, to the letter."""

    texts: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    """Between 0 and 1."""

    votes: tuple[str | None, ...] = ()
    """What each sample answers; ``None`` where that cannot be told."""

    error: str | None = None
    """``code: detail``, where there are no samples."""

    @cached_property
    def digest(self) -> str:
        """16 hex digits over all that a reward model is asked."""
        content = [self.conversation.to_dicts(), self.texts]
        canonical = json.dumps(content, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class OnProgress(Protocol):
    """Is told how far a task is."""

    def __call__(self, task: str, done: int, total: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class About:
    """What results say of where the questions are from."""

    measure: Measure
    size: int
    """Questions that are asked."""

    has_votes: bool
    settings: Mapping[str, Any]
    bad_records: int = 0
    reasons: tuple[str, ...] = field(default=())
    """Why these are not all the questions there are."""


class Source(Protocol):
    """Has questions, and keeps what the policy answers."""

    @property
    def about(self) -> About: ...

    async def draw(self, policy: AsyncPolicyClient, on_progress: OnProgress) -> str | None:
        """Has the policy answer what it has not; returns what ended it early, if anything did.

        Raises:
            JournalError: if answers in the folder are of another job.
        """
        ...

    def drawn(self) -> Iterator[Drawn]:
        """Each question that was asked, once: with its samples, or with an error."""
        ...

    def greedy(self) -> Board | None:
        """The scores of greedy answers to these questions, where the folder has any."""
        ...


class Line(Protocol):
    """A line of a journal of answers."""

    @property
    def number(self) -> int: ...

    @property
    def error(self) -> str | None: ...


L = TypeVar("L", bound=Line)


def settled(lines: Iterable[L]) -> Iterator[L]:
    """The lines with answers as they come, then the failures that no answer came after."""
    answered: set[int] = set()
    failed: dict[int, L] = {}
    for line in lines:
        if line.error is None:
            answered.add(line.number)
            yield line
        else:
            failed[line.number] = line
    yield from (line for number, line in failed.items() if number not in answered)
