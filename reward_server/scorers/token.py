"""What the kinds of reward with a model on the device share. Light: torch stays behind the engine.

A subclass says what the head's numbers of one input mean; this module renders, computes and puts
results together. A number that is not finite becomes a typed error, never a reward.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reward_server.pipeline import Outcomes, Pipeline
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    ItemError,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.rendering import Renderer
from reward_server.scorer import Call, RawInput, RawScored, Scored
from reward_server.tokens import Labels, TokenInput


@dataclass(frozen=True, slots=True)
class Reading:
    """A reward, and the named numbers that it was made of."""

    reward: float
    parts: dict[str, float] | None = None
    disagreement: float | None = None


class PipelineScorer:
    """A model behind one pipeline: ready, started and closed as that is."""

    def __init__(self, info: ModelInfo, pipeline: Pipeline) -> None:
        self._info = info
        self.pipeline = pipeline

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_ready(self) -> bool:
        return self.pipeline.batcher.is_ready

    def start(self) -> None:
        self.pipeline.start()

    async def aclose(self) -> None:
        await self.pipeline.aclose()


class HeadScorer(PipelineScorer):
    """Rewards from the numbers of a head, input by input."""

    def read(self, labels: Labels) -> Reading:
        """The reward that the head's numbers stand for."""
        return Reading(labels[0])

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        started = time.perf_counter()

        def work(renderer: Renderer) -> list[list[TokenInput]]:
            return [renderer.render(group, on_overflow=call.on_overflow) for group in groups]

        rendered = await self.pipeline.render(
            work, characters=characters_of(groups), unshared=unshared_characters_of(groups)
        )
        inputs = [item for group in rendered for item in group]
        render_seconds = time.perf_counter() - started
        outcomes = await self.pipeline.compute(inputs, call)
        results = iter(self._results(inputs, outcomes))
        return Scored(
            groups=tuple(
                GroupResult(id=group.id, results=tuple(next(results) for _ in group.candidates))
                for group in groups
            ),
            usage=usage_of(inputs, outcomes),
            engine=self.pipeline.engine,
            seconds={"render": render_seconds, **outcomes.seconds},
        )

    async def score_raw(self, inputs: Sequence[RawInput], call: Call) -> RawScored:
        started = time.perf_counter()

        def work(renderer: Renderer) -> list[TokenInput]:
            return renderer.render_raw(inputs, on_overflow=call.on_overflow)

        lengths = [len(each.text or each.ids or "") + len(each.pair or "") for each in inputs]
        # What they share is not known before they are tokens; the longest is there in any case.
        rendered = await self.pipeline.render(
            work, characters=sum(lengths), unshared=max(lengths, default=0)
        )
        render_seconds = time.perf_counter() - started
        outcomes = await self.pipeline.compute(rendered, call)
        results = tuple(self._results(rendered, outcomes))
        return RawScored(
            results=results,
            usage=usage_of(rendered, outcomes),
            labels=tuple(
                () if scored.error or isinstance(each, ItemError) else each
                for scored, each in zip(results, outcomes.labels, strict=True)
            ),
            engine=self.pipeline.engine,
            seconds={"render": render_seconds, **outcomes.seconds},
        )

    def _results(self, inputs: Sequence[TokenInput], outcomes: Outcomes) -> list[CandidateResult]:
        return [
            result(
                item,
                outcome if isinstance(outcome, ItemError) else self._read_finite(outcome),
            )
            for item, outcome in zip(inputs, outcomes.labels, strict=True)
        ]

    def _read_finite(self, labels: Labels) -> Reading | ItemError:
        return finite(self.read(labels)) if all(map(math.isfinite, labels)) else broken(labels)


def result(item: TokenInput, found: Reading | ItemError) -> CandidateResult:
    """The wire's form of what was found for one input."""
    tokens, truncated = len(item.ids), item.truncated_tokens
    if isinstance(found, ItemError):
        return CandidateResult(reward=None, tokens=tokens, truncated_tokens=truncated, error=found)
    return CandidateResult(
        reward=found.reward,
        tokens=tokens,
        truncated_tokens=truncated,
        parts=found.parts,
        disagreement=found.disagreement,
    )


def finite(reading: Reading) -> Reading | ItemError:
    """``reading``, or an error if its reward is not a finite number."""
    return reading if math.isfinite(reading.reward) else broken((reading.reward,))


def broken(labels: Labels) -> ItemError:
    """The error of an input whose numbers are not finite."""
    return ItemError(code="non_finite_reward", detail=f"the model gave {list(labels)[:8]}")


def usage_of(inputs: Sequence[TokenInput], outcomes: Outcomes) -> Usage:
    """The work behind one answer."""
    return Usage(
        tokens=sum(len(item.ids) for item in inputs),
        computed_tokens=outcomes.computed_tokens,
        cached_candidates=outcomes.cached,
    )


def characters_of(groups: Sequence[ScoreGroup]) -> int:
    """Characters of all texts that have to be rendered, each conversation once a candidate."""
    return sum(
        sum(len(message.content) for message in group.messages) * len(group.candidates)
        + sum(map(len, group.candidates))
        for group in groups
    )


def unshared_characters_of(groups: Sequence[ScoreGroup]) -> int:
    """The same with every text once, such as the system prompt of all groups."""
    texts = {message.content for group in groups for message in group.messages}
    texts.update(candidate for group in groups for candidate in group.candidates)
    return sum(map(len, texts))
