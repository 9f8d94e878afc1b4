"""Pairwise preference models: a causal model is asked which of two responses is better.

Every two candidates of a group are compared in both orders, since such models favour a place. The
log-odds of one comparison are ``logit(first choice) - logit(second choice)``; those of the swapped
order count with the other sign, and the mean of the two is what the pair is worth. A candidate's
reward is the mean of its log-odds against its rivals: antisymmetric for two candidates, and without
any meaning outside its group. ``disagreement`` is the mean difference between the two orders.

The default prompt is that of RLHFlow's pair-preference models.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from reward_server.errors import CandidateTooLong, LimitExceeded, ServerStartError
from reward_server.pipeline import Outcomes, Pipeline
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    GroupResult,
    ItemError,
    ModelInfo,
    ScoreGroup,
)
from reward_server.rendering import Renderer
from reward_server.scorer import Call, Scored
from reward_server.scorers.token import (
    PipelineScorer,
    Reading,
    finite,
    unshared_characters_of,
    usage_of,
)
from reward_server.tokens import Labels, TokenInput

DEFAULT_PROMPT = (
    "[CONTEXT] \n\n{conversation} [RESPONSE A] {response_a} [RESPONSE B] {response_b} \n"
)
PLACEHOLDERS = ("{conversation}", "{response_a}", "{response_b}")
_PLACEHOLDER = re.compile(r"\{(conversation|response_a|response_b)\}")
MAX_CANDIDATES = 32
"""Largest group: 992 comparisons."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two candidates of a group and the inputs that ask for each order."""

    first: int
    second: int
    forward: TokenInput
    swapped: TokenInput


class PairwiseScorer(PipelineScorer):
    """Compares all candidates of a group with each other."""

    def __init__(self, info: ModelInfo, pipeline: Pipeline, prompt: str) -> None:
        super().__init__(info, pipeline)
        self._prompt = prompt

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        """As the protocol; a candidate without a rival gets an error.

        Raises:
            LimitExceeded: if a group has more candidates than can all be compared.
            CandidateTooLong: if a comparison is too long; comparisons are never cut.
        """
        started = time.perf_counter()
        check_sizes(groups)
        rendered = await self.pipeline.render(
            lambda renderer: [self._compare(renderer, group) for group in groups],
            characters=sum(map(_characters, groups)),
            unshared=unshared_characters_of(groups),
        )
        inputs = [
            item
            for comparisons in rendered
            for pair in comparisons
            for item in (pair.forward, pair.swapped)
        ]
        render_seconds = time.perf_counter() - started
        outcomes = await self._compute(inputs, call)
        answers = iter(outcomes.labels)
        return Scored(
            groups=tuple(
                _group_result(group, [(pair, next(answers), next(answers)) for pair in comparisons])
                for group, comparisons in zip(groups, rendered, strict=True)
            ),
            usage=usage_of(inputs, outcomes),
            engine=self.pipeline.engine,
            seconds={"render": render_seconds, **outcomes.seconds},
        )

    async def _compute(self, inputs: Sequence[TokenInput], call: Call) -> Outcomes:
        if not inputs:
            return Outcomes([], 0, 0, {"wait": 0.0, "forward": 0.0})
        return await self.pipeline.compute(inputs, call)

    def _compare(self, renderer: Renderer, group: ScoreGroup) -> list[Comparison]:
        return [
            Comparison(
                first,
                second,
                forward=self._input(renderer, group, first, second),
                swapped=self._input(renderer, group, second, first),
            )
            for first, second in combinations(range(len(group.candidates)), 2)
        ]

    def _input(self, renderer: Renderer, group: ScoreGroup, a: int, b: int) -> TokenInput:
        text = write_prompt(self._prompt, group, group.candidates[a], group.candidates[b])
        try:
            return renderer.render_prompt([ChatMessage(role="user", content=text)])
        except CandidateTooLong as error:
            raise CandidateTooLong(f"group {group.id!r}, candidates {a} and {b}: {error}") from None


def check_prompt(prompt: str) -> str:
    """``prompt``, or the default if it is empty.

    Raises:
        ServerStartError: if a placeholder is missing.
    """
    missing = [each for each in PLACEHOLDERS if prompt and each not in prompt]
    if missing:
        raise ServerStartError(f"prompt: {', '.join(missing)} is missing; add it")
    return prompt or DEFAULT_PROMPT


def write_prompt(prompt: str, group: ScoreGroup, first: str, second: str) -> str:
    """The text of one comparison; what the texts themselves hold is never taken for a placeholder.

    A conversation is written turn by turn as ``<turn> role`` and its content, a line each.
    """
    conversation = "".join(f"<turn> {each.role}\n {each.content}\n" for each in group.messages)
    texts = {"conversation": conversation, "response_a": first, "response_b": second}
    return _PLACEHOLDER.sub(lambda found: texts[found[1]], prompt)


def check_sizes(groups: Sequence[ScoreGroup]) -> None:
    """Refuses groups with too many candidates.

    Raises:
        LimitExceeded: naming the group.
    """
    for group in groups:
        if len(group.candidates) > MAX_CANDIDATES:
            raise LimitExceeded(
                f"group {group.id!r}: {len(group.candidates)} candidates, limit {MAX_CANDIDATES} "
                "for a pairwise model; split the group"
            )


Answer = tuple[Comparison, Labels | ItemError, Labels | ItemError]
"""A comparison with the numbers of its two orders."""


def _group_result(group: ScoreGroup, answers: Sequence[Answer]) -> GroupResult:
    odds: list[list[float]] = [[] for _ in group.candidates]
    spread: list[list[float]] = [[] for _ in group.candidates]
    tokens = [0] * len(group.candidates)
    errors: list[ItemError | None] = [None] * len(group.candidates)
    for pair, forward, swapped in answers:
        for index in (pair.first, pair.second):
            tokens[index] += len(pair.forward.ids) + len(pair.swapped.ids)
        worth = log_odds(forward, swapped)
        if isinstance(worth, ItemError):
            errors[pair.first] = errors[pair.second] = worth
            continue
        odds[pair.first].append(worth.reward)
        odds[pair.second].append(-worth.reward)
        spread[pair.first].append(worth.disagreement or 0.0)
        spread[pair.second].append(worth.disagreement or 0.0)
    results = [
        _candidate(tokens[index], errors[index], odds[index], spread[index])
        for index in range(len(group.candidates))
    ]
    return GroupResult(id=group.id, results=tuple(results))


def log_odds(forward: Labels | ItemError, swapped: Labels | ItemError) -> Reading | ItemError:
    """Log-odds that the first candidate is better, and half the difference of the two orders."""
    if isinstance(forward, ItemError):
        return forward
    if isinstance(swapped, ItemError):
        return swapped
    as_first, as_second = forward[0] - forward[1], swapped[1] - swapped[0]
    return finite(Reading((as_first + as_second) / 2, None, abs(as_first - as_second) / 2))


def _candidate(
    tokens: int, error: ItemError | None, odds: Sequence[float], spread: Sequence[float]
) -> CandidateResult:
    if error is None and not odds:
        error = ItemError(code="no_rival", detail="a pairwise model needs two candidates or more")
    if error is not None:
        return CandidateResult(reward=None, tokens=tokens, error=error)
    return CandidateResult(reward=fmean(odds), tokens=tokens, disagreement=fmean(spread))


def _characters(group: ScoreGroup) -> int:
    count = len(group.candidates)
    conversation = sum(len(message.content) for message in group.messages)
    return count * (count - 1) * conversation + 2 * (count - 1) * sum(map(len, group.candidates))
