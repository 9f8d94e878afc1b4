"""An endpoint whose rewards anybody can compute, and ranked groups for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from benchmarks.endpoints.base import Description, Rewards
from benchmarks.errors import EvaluationFailed
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from reward_server.protocol import ScoreGroup


class FakeEndpoint:
    """Reward = length of the candidate, plus a hundredth of the question's.

    Args:
        fails_after: groups that are answered before the endpoint is gone; ``None`` for all.
    """

    def __init__(self, *, fails_after: int | None = None) -> None:
        self.left = fails_after
        self.asked: list[ScoreGroup] = []
        self.calls = 0

    async def describe(self) -> Description:
        return Description(model="fake", fingerprint="f00d")

    async def score(self, groups: Iterable[ScoreGroup]) -> AsyncGenerator[Rewards, None]:
        self.calls += 1
        for group in groups:
            if self.left == 0:
                raise EvaluationFailed("the server is gone")
            self.left = None if self.left is None else self.left - 1
            self.asked.append(group)
            question = len(group.messages[-1].content) / 100
            rewards = tuple(len(text) + question for text in group.candidates)
            yield Rewards(rewards, (None,) * len(rewards))

    async def aclose(self) -> None:
        """Nothing is open."""


def pairs(number: int, *, subset: str = "") -> list[RankedGroup]:
    """Pairs whose chosen candidate is longer in two of three."""
    return [
        RankedGroup.pair(
            f"p{index}",
            Conversation.ask(f"What about {index}?"),
            "y" * (5 if index % 3 else 1),
            "n" * 3,
            subset=subset,
        )
        for index in range(number)
    ]
