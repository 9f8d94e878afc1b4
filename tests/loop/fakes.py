"""Services that answer from memory, for tests of the loop's own logic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from corpora.conversation import Conversation
from corpora.world import Question
from policy.client import Candidate, FinishReason, SampledGroup, SamplingParameters
from policy.errors import PolicyRequestFailed
from reward_server.errors import CandidateTooLong
from reward_server.protocol import CandidateResult, GroupResult, ItemError, ScoreGroup


def questions(count: int) -> list[Question]:
    return [Question(f"q{i}", Conversation.ask(f"question {i}?")) for i in range(count)]


@dataclass
class FakePolicy:
    """Answers ``candidates`` times with the question and the seed; fails on questions named."""

    failing: frozenset[str] = frozenset()
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    seeds: dict[tuple[str, str], int] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0

    async def sample(
        self, conversation: Conversation, parameters: SamplingParameters, *, version: str
    ) -> SampledGroup:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.seeds[version, conversation.last] = parameters.seed
        await asyncio.sleep(0)
        if conversation.last in self.hold:
            await asyncio.wait_for(self.hold[conversation.last].wait(), timeout=5)
        self.in_flight -= 1
        if conversation.last in self.failing:
            raise PolicyRequestFailed("/v1/chat/completions: 400: too long", status=400)
        candidates = tuple(
            Candidate(f"{conversation.last} {i}", (1, 2, 3), FinishReason.STOP, -3.0, i)
            for i in range(parameters.candidates)
        )
        return SampledGroup((7, 8), candidates, version)

    async def token_logprobs(
        self, prompt_token_ids: Sequence[int], response_token_ids: Sequence[int], *, version: str
    ) -> tuple[float, ...]:
        assert version == "base"
        return tuple(-2.0 for _ in response_token_ids)


@dataclass
class FakeReward:
    """Rewards a candidate by its position.

    The second candidate of ``broken`` gets an error; ``refused`` is too long as a whole.
    """

    broken: str | None = None
    refused: str | None = None
    scored: dict[str, asyncio.Event] = field(default_factory=dict)

    async def score(
        self, groups: Sequence[ScoreGroup], *, expected_fingerprint: str | None = None
    ) -> list[GroupResult]:
        for group in groups:
            if group.id in self.scored:
                self.scored[group.id].set()
            if group.id == self.refused:
                raise CandidateTooLong(f"group {group.id!r}, candidate 0: 600 tokens, limit 512")
        return [GroupResult(id=group.id, results=self._results(group)) for group in groups]

    def _results(self, group: ScoreGroup) -> tuple[CandidateResult, ...]:
        error = ItemError(code="non_finite_reward", detail="the reward is not a finite number")
        return tuple(
            CandidateResult(reward=None, tokens=5, error=error)
            if group.id == self.broken and position == 1
            else CandidateResult(reward=float(position), tokens=5)
            for position in range(len(group.candidates))
        )
