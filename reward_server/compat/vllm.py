"""vLLM's pooling endpoints: ``/classify``, ``/pooling``, ``/score`` and ``/v1|v2/rerank``.

Peer: vLLM 0.32.0, ``entrypoints/pooling``; a test compares the answers of its server on a tiny
reward model with this one's. verl's reward loop comes over ``/classify``. Of vLLM's further paths,
``/rerank`` is shared with another peer (``rerank``) and ``/v1/score`` with the native wire
(:class:`SharedScoreRoute`).

Squashed by default: vLLM answers the sigmoid of a head's one logit, or the softmax of several;
``use_activation: false``, or ``activation: false`` as it was called, gives raw numbers. ``/score``
and ``/rerank`` join their two texts as the tokenizer joins pairs and use no chat template, as vLLM
does: to score a response to a message, send ``messages`` to ``/classify``, or use the native wire.
Refused is what would change the reward in silence: padding, cutting the end of an input, and other
chat templates than the served one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from reward_server.compat.base import (
    Numbers,
    candidates_of,
    classified,
    numbers_of_chat,
    numbers_of_raw,
    packed,
    probabilities,
    refuse_longer,
    request_name,
    rewards_of,
    sigmoid,
    to_group,
    to_inputs,
)
from reward_server.compat.dialect import OPENAI_REFUSALS, OpenAIRoute
from reward_server.compat.vllm_bodies import (
    ClassifyBody,
    PoolingBody,
    PoolingOptions,
    ScoreBody,
    VllmChatRequest,
    VllmClasses,
    VllmCompletionRequest,
    VllmDocument,
    VllmPairs,
    VllmPooled,
    VllmPooling,
    VllmRank,
    VllmRanking,
    VllmRequest,
    VllmRerankRequest,
    VllmRerankUsage,
    VllmScore,
    VllmScores,
    VllmUsage,
)
from reward_server.dependencies import ScoringDep
from reward_server.errors import InvalidRequest
from reward_server.problems import Responses
from reward_server.protocol import CandidateResult, ModelInfo, ScoreRequest
from reward_server.scorer import RawInput, RawRequest, RawScored, Scoring

_BYTE_ORDER: dict[str, Literal["=", "<", ">"]] = {"native": "=", "big": ">", "little": "<"}


router = APIRouter(route_class=OpenAIRoute, tags=["vLLM"], responses=OPENAI_REFUSALS)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer says of itself: the request's name, seconds since 1970, and the model."""

    name: str
    created: int
    model: str


def envelope(request: Request, body: VllmRequest, info: ModelInfo) -> Envelope:
    """The envelope of an answer that is given now."""
    name = request_name(request, given=body.request_id)
    return Envelope(name=name, created=int(time.time()), model=info.name)


def to_raw(form: VllmCompletionRequest, info: ModelInfo) -> RawRequest:
    """Inputs that the client rendered.

    Raises:
        InvalidRequest: if they are to be cut to more tokens than the model reads.
    """
    return RawRequest(
        inputs=to_inputs(form.input, add_special_tokens=form.add_special_tokens),
        model=form.name,
        on_overflow=form.overflow(info),
        lane=form.lane,
    )


def to_score(form: VllmChatRequest, info: ModelInfo) -> ScoreRequest:
    """A conversation, its last message as the candidate.

    Raises:
        InvalidRequest: if it does not end with a response, or as :func:`to_raw`.
    """
    return ScoreRequest(
        model=form.name,
        groups=(to_group(form.messages),),
        on_overflow=form.overflow(info),
        lane=form.lane,
    )


def to_pairs(form: VllmPairs, info: ModelInfo) -> RawRequest:
    """The pairs of a request: one first text with each second one, or each with its own.

    Raises:
        InvalidRequest: if the two sides do not fit, or as :func:`to_raw`.
    """
    first, second = form.sides
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second):
        raise InvalidRequest(
            f"{len(first)} first texts and {len(second)} second ones; "
            "give one first text, or as many as second ones"
        )
    return RawRequest(
        inputs=tuple(RawInput(text=a, pair=b) for a, b in zip(first, second, strict=True)),
        model=form.name,
        on_overflow=form.overflow(info),
        lane=form.lane,
    )


def from_classes(numbers: Numbers, stamp: Envelope, *, is_squashed: bool) -> VllmClasses:
    """The answer of ``/classify``."""
    return VllmClasses(
        id=f"classify-{stamp.name}",
        created=stamp.created,
        model=stamp.model,
        data=classified(numbers, is_squashed=is_squashed),
        usage=_usage(numbers.tokens),
    )


def from_pooling(
    numbers: Numbers, stamp: Envelope, *, is_squashed: bool, options: PoolingOptions
) -> VllmPooling:
    """The answer of ``/pooling``."""
    rows = [probabilities(row) if is_squashed else list(row) for row in numbers.rows]
    return VllmPooling(
        id=f"pooling-{stamp.name}",
        created=stamp.created,
        model=stamp.model,
        data=[
            VllmPooled(index=index, data=_encoded(row, options)) for index, row in enumerate(rows)
        ],
        usage=_usage(numbers.tokens),
    )


def from_scores(scored: RawScored, stamp: Envelope, *, is_squashed: bool) -> VllmScores:
    """The answer of ``/score``.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    scores = _scores(scored, is_squashed=is_squashed)
    return VllmScores(
        id=f"score-{stamp.name}",
        created=stamp.created,
        model=stamp.model,
        data=[VllmScore(index=index, score=score) for index, score in enumerate(scores)],
        usage=_usage(scored.usage.tokens),
    )


def from_ranking(scored: RawScored, stamp: Envelope, *, body: VllmRerankRequest) -> VllmRanking:
    """The answer of ``/rerank``: the best first, equals in the order of the request.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    scores = _scores(scored, is_squashed=body.is_squashed)
    documents = body.sides[1]
    order = sorted(range(len(scores)), key=lambda index: scores[index], reverse=True)
    tokens = scored.usage.tokens
    return VllmRanking(
        id=f"score-{stamp.name}",
        model=stamp.model,
        usage=VllmRerankUsage(prompt_tokens=tokens, total_tokens=tokens),
        results=[
            VllmRank(
                index=index,
                document=VllmDocument(text=documents[index], multi_modal=None),
                relevance_score=scores[index],
            )
            for index in order[: body.top_n or None]
        ],
    )


def _scores(scored: RawScored, *, is_squashed: bool) -> list[float]:
    rewards = rewards_of(scored.results)
    return [sigmoid(reward) for reward in rewards] if is_squashed else rewards


def _encoded(row: list[float], options: PoolingOptions) -> list[float] | str:
    if options.encoding_format == "float":
        return row
    return packed(row, order=_BYTE_ORDER[options.endianness])


def _usage(tokens: int) -> VllmUsage:
    return VllmUsage(prompt_tokens=tokens, total_tokens=tokens)


def _hold_to_limit(form: VllmRequest, results: list[CandidateResult]) -> None:
    limit = form.truncate_prompt_tokens
    if limit is not None and limit >= 0:
        refuse_longer(results, limit=limit, field="truncate_prompt_tokens")


async def _numbers(
    form: VllmCompletionRequest | VllmChatRequest, info: ModelInfo, scoring: Scoring
) -> Numbers:
    if isinstance(form, VllmChatRequest):
        response = await scoring.score(to_score(form, info))
        _hold_to_limit(form, candidates_of(response))
        return numbers_of_chat(response, info)
    scored = await scoring.score_raw(to_raw(form, info))
    _hold_to_limit(form, list(scored.results))
    return numbers_of_raw(scored)


async def _scored_pairs(form: VllmPairs, info: ModelInfo, scoring: Scoring) -> RawScored:
    scored = await scoring.score_raw(to_pairs(form, info))
    _hold_to_limit(form, list(scored.results))
    return scored


@router.post("/classify")
async def vllm_classify(body: ClassifyBody, scoring: ScoringDep, request: Request) -> VllmClasses:
    """The numbers of the head, as vLLM gives them: squashed unless ``use_activation`` is false."""
    info = scoring.find(body.name)
    numbers = await _numbers(body, info, scoring)
    return from_classes(numbers, envelope(request, body, info), is_squashed=body.is_squashed)


@router.post("/pooling")
async def vllm_pooling(body: PoolingBody, scoring: ScoringDep, request: Request) -> VllmPooling:
    """The numbers of ``/classify`` in the shape of vLLM's ``/pooling``."""
    info = scoring.find(body.name)
    numbers = await _numbers(body, info, scoring)
    stamp = envelope(request, body, info)
    return from_pooling(numbers, stamp, is_squashed=body.is_squashed, options=body)


@router.post("/score")
async def vllm_score(body: ScoreBody, scoring: ScoringDep, request: Request) -> VllmScores:
    """Scores of pairs of texts, as vLLM's: squashed unless ``use_activation`` is false."""
    info = scoring.find(body.name)
    scored = await _scored_pairs(body, info, scoring)
    return from_scores(scored, envelope(request, body, info), is_squashed=body.is_squashed)


@router.post("/v1/rerank")
async def vllm_rerank_v1(
    body: VllmRerankRequest, scoring: ScoringDep, request: Request
) -> VllmRanking:
    """Ranks documents, as vLLM's ``/rerank`` under Jina's path."""
    return await rank(body, scoring, request)


@router.post("/v2/rerank")
async def vllm_rerank_v2(
    body: VllmRerankRequest, scoring: ScoringDep, request: Request
) -> VllmRanking:
    """Ranks documents, as vLLM's ``/rerank`` under Cohere's path."""
    return await rank(body, scoring, request)


async def rank(body: VllmRerankRequest, scoring: Scoring, request: Request) -> VllmRanking:
    """Ranks documents by their score with the query.

    Raises:
        RewardServerError: if the request cannot be scored as a whole.
    """
    info = scoring.find(body.name)
    scored = await _scored_pairs(body, info, scoring)
    return from_ranking(scored, envelope(request, body, info), body=body)


def is_vllm_score(body: bytes) -> bool:
    """Whether a body for ``/v1/score`` is vLLM's and cannot be a native one, which has groups."""
    return b'"groups"' not in body and any(
        name in body for name in (b'"text_1"', b'"data_1"', b'"queries"')
    )


SHARED_ANSWERS: Responses = {
    status: {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    }
    for status in (400, 404, 429, 500, 503, 504)
}
"""How the native ``/v1/score`` refuses vLLM's bodies."""


class SharedScoreRoute(APIRoute):
    """A native ``/v1/score`` that answers vLLM's bodies, as its ``/v1/score`` does, in its words.

    A native body pays for it with one search for a field name.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The native handler, with vLLM's beside it."""
        native = super().get_route_handler()
        foreign = OpenAIRoute(self.path, vllm_score, methods=["POST"]).get_route_handler()

        async def handle(request: Request) -> Response:
            is_foreign = is_vllm_score(await request.body())
            return await (foreign if is_foreign else native)(request)

        return handle
