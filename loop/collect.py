"""Sample → score, streaming: every question goes its own way from policy to reward server.

There is no barrier between the two services: while one question's candidates are scored, others
are still sampled. At most ``window`` questions are on the way at once. Each finished group is
handed to ``keep`` at once, so what a killed run had finished is not done again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from corpora.world import Question
from loop.errors import first_failure
from loop.groups import ScoredCandidate, ScoredGroup
from policy.client import BASE, AsyncPolicyClient, SampledGroup, SamplingParameters
from policy.errors import PolicyRequestFailed
from reward_server.client import AsyncRewardClient
from reward_server.errors import (
    BodyTooLarge,
    CandidateTooLong,
    InvalidRequest,
    LimitExceeded,
    RenderingFailed,
    UnsupportedInput,
)
from reward_server.protocol import CandidateResult, ScoreGroup

Keep = Callable[[ScoredGroup], None]

REFUSED = (
    BodyTooLarge,
    CandidateTooLong,
    InvalidRequest,
    LimitExceeded,
    RenderingFailed,
    UnsupportedInput,
)
"""What the reward server says of one group; its other errors concern every group."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Samples from one policy server and scores with one reward model."""

    policy: AsyncPolicyClient
    reward: AsyncRewardClient
    fingerprint: str
    """Of the reward model of this run; the server refuses if it serves another one."""
    window: int

    async def collect(
        self,
        questions: Sequence[Question],
        *,
        version: str,
        parameters: SamplingParameters,
        keep: Keep,
        has_kl: bool = False,
    ) -> None:
        """Samples and scores every question once.

        A question that cannot be sampled or scored is kept as a group with its error: one that is
        too long for either model must not end a run.

        Args:
            questions: what to answer.
            version: the policy version that answers.
            parameters: ``seed`` is common to all questions; each one's own is derived from it and
                its id, so two policies answer the same question with the same seeds.
            keep: called once a question, in the order in which they finish.
            has_kl: also ask the base policy for the log-probability of every response.

        Raises:
            PolicyServerUnreachable, RewardServerUnreachable: when retries are used up.
        """
        room = asyncio.Semaphore(self.window)

        async def answer(question: Question) -> None:
            async with room:
                keep(await self._answer(question, version, parameters, has_kl))

        try:
            async with asyncio.TaskGroup() as tasks:
                for question in questions:
                    tasks.create_task(answer(question))
        except* Exception as failures:
            raise first_failure(failures) from failures

    async def _answer(
        self, question: Question, version: str, parameters: SamplingParameters, has_kl: bool
    ) -> ScoredGroup:
        try:
            sampled = await self.policy.sample(
                question.conversation, seeded(parameters, question), version=version
            )
            base = await self._base_logprobs(sampled) if has_kl else None
            results = await self._score(question, [c.text for c in sampled.candidates])
        except (PolicyRequestFailed, *REFUSED) as failure:
            return ScoredGroup(question.id, version, None, (), error=str(failure))
        return _join(question, version, self.fingerprint, sampled, base, results)

    async def _base_logprobs(self, sampled: SampledGroup) -> list[float]:
        prompt = sampled.prompt_token_ids
        return [
            sum(await self.policy.token_logprobs(prompt, candidate.token_ids, version=BASE))
            for candidate in sampled.candidates
        ]

    async def _score(self, question: Question, texts: list[str]) -> Sequence[CandidateResult]:
        group = ScoreGroup.of(question.id, question.conversation, texts)
        [scored] = await self.reward.score([group], expected_fingerprint=self.fingerprint)
        return scored.results


async def sample_texts(
    policy: AsyncPolicyClient,
    questions: Sequence[Question],
    *,
    parameters: SamplingParameters,
    window: int,
) -> dict[str, list[str]]:
    """The base policy's own answers, unscored: what a world builds reward pairs from."""
    room = asyncio.Semaphore(window)

    async def answer(question: Question) -> tuple[str, list[str]]:
        async with room:
            sampled = await policy.sample(
                question.conversation, seeded(parameters, question), version=BASE
            )
        return question.id, [candidate.text for candidate in sampled.candidates]

    return dict(await asyncio.gather(*map(answer, questions)))


def seeded(parameters: SamplingParameters, question: Question) -> SamplingParameters:
    """The parameters with the question's own seed, the same in every process."""
    digest = hashlib.sha256(f"{parameters.seed}:{question.id}".encode()).digest()
    return replace(parameters, seed=int.from_bytes(digest[:4], "big") >> 1)


def still_open(questions: Sequence[Question], done: Collection[str]) -> list[Question]:
    """The questions without a group yet."""
    return [question for question in questions if question.id not in done]


def _join(
    question: Question,
    version: str,
    fingerprint: str,
    sampled: SampledGroup,
    base: list[float] | None,
    results: Sequence[CandidateResult],
) -> ScoredGroup:
    candidates = tuple(
        ScoredCandidate(
            text=candidate.text,
            length_tokens=len(candidate.token_ids),
            finish_reason=str(candidate.finish_reason),
            logprob=candidate.logprob,
            base_logprob=base[position] if base is not None else None,
            reward=result.reward,
            error=result.error.detail if result.error else None,
        )
        for position, (candidate, result) in enumerate(
            zip(sampled.candidates, results, strict=True)
        )
    )
    return ScoredGroup(question.id, version, fingerprint, candidates)
