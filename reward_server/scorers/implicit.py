"""The implicit reward of a DPO policy: ``beta * (log pi(y|x) - log pi_ref(y|x))``, in nats.

Rafailov et al. 2023, equation 5, without the term that depends on the conversation alone: it is the
same for all candidates of a group and drops out of every comparison. Log-probabilities are summed
over the candidate's tokens, its end-of-turn token included, as TRL's DPO sums them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from reward_server.pipeline import Outcomes, Pipeline
from reward_server.protocol import CandidateResult, GroupResult, ItemError, ModelInfo, ScoreGroup
from reward_server.rendering import Renderer
from reward_server.scorer import Call, Scored
from reward_server.scorers.token import (
    Reading,
    characters_of,
    finite,
    result,
    unshared_characters_of,
    usage_of,
)
from reward_server.tokens import Labels, TokenInput


class ImplicitScorer:
    """A policy and its reference, each behind a batcher of its own, reading the same token ids."""

    def __init__(
        self, info: ModelInfo, policy: Pipeline, reference: Pipeline, *, beta: float
    ) -> None:
        self._info = info
        self._policy = policy
        self._reference = reference
        self._beta = beta

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def pipelines(self) -> tuple[Pipeline, Pipeline]:
        """The policy's and the reference's."""
        return self._policy, self._reference

    @property
    def is_ready(self) -> bool:
        return all(pipeline.batcher.is_ready for pipeline in self.pipelines)

    def start(self) -> None:
        for pipeline in self.pipelines:
            pipeline.start()

    async def aclose(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.aclose()

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        started = time.perf_counter()

        def work(renderer: Renderer) -> list[list[TokenInput]]:
            return [renderer.render(group, on_overflow=call.on_overflow) for group in groups]

        rendered = await self._policy.render(
            work, characters=characters_of(groups), unshared=unshared_characters_of(groups)
        )
        inputs = [item for group in rendered for item in group]
        render_seconds = time.perf_counter() - started
        policy, reference = await self._both(inputs, call)
        results = iter(
            [
                self._result(*each)
                for each in zip(inputs, policy.labels, reference.labels, strict=True)
            ]
        )
        usage = usage_of(inputs, policy)
        computed = policy.computed_tokens + reference.computed_tokens
        return Scored(
            groups=tuple(
                GroupResult(id=group.id, results=tuple(next(results) for _ in group.candidates))
                for group in groups
            ),
            usage=usage.model_copy(update={"computed_tokens": computed}),
            engine=self._policy.engine,
            seconds={"render": render_seconds, **policy.seconds},
        )

    async def _both(self, inputs: Sequence[TokenInput], call: Call) -> tuple[Outcomes, Outcomes]:
        # Once for both, and before either computes anything.
        call.on_tokens(sum(len(item.ids) for item in inputs))
        told = replace(call, on_tokens=lambda tokens: None)
        try:
            async with asyncio.TaskGroup() as tasks:
                policy = tasks.create_task(self._policy.compute(inputs, told))
                reference = tasks.create_task(self._reference.compute(inputs, told))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return policy.result(), reference.result()

    def _result(
        self, item: TokenInput, policy: Labels | ItemError, reference: Labels | ItemError
    ) -> CandidateResult:
        if isinstance(policy, ItemError):
            return result(item, policy)
        if isinstance(reference, ItemError):
            return result(item, reference)
        parts = {"log_probability": policy[0], "reference_log_probability": reference[0]}
        return result(item, finite(Reading(self._beta * (policy[0] - reference[0]), parts)))
