"""SGLang's reward models: ``POST /v1/embeddings`` and ``POST /v1/classify``.

Peer: SGLang at commit 004c82e0, ``srt/entrypoints/openai`` (``protocol``, ``serving_embedding``,
``serving_classify``). verl's reward loop comes over ``/v1/embeddings`` when its engine is SGLang:
the "embedding" of a reward model is its raw numbers, and nothing is squashed.

``/v1/classify`` is squashed. SGLang answers the softmax of the head's numbers, which is 1.0 for
every input of a head with one logit; here such a head answers its sigmoid, as with vLLM, and
``use_activation: false``, which SGLang does not have, gives raw numbers. An unknown model is an
error here; SGLang looks at no name.
"""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request

from reward_server.compat.base import (
    DEFAULT,
    Answer,
    Classified,
    Foreign,
    Input,
    Numbers,
    classified,
    numbers_of_raw,
    packed,
    request_name,
    to_inputs,
)
from reward_server.compat.dialect import DialectRoute, Refusal, Written, openai_info, refusals
from reward_server.dependencies import ScoringDep
from reward_server.protocol import ModelInfo, Text
from reward_server.scorer import RawRequest


class SglangError(Answer):
    """What is wrong, as SGLang says it."""

    object: Literal["error"] = "error"
    message: str
    type: str
    param: str | None = None
    code: int


def sglang_error(refusal: Refusal) -> Written:
    """A refusal as SGLang writes it: OpenAI's, without the object around it."""
    info = openai_info(refusal)
    return Written(info.code, SglangError(**info.model_dump()))


class SglangRoute(DialectRoute):
    """Refuses in SGLang's words."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """As :func:`sglang_error`."""
        return sglang_error(refusal)


router = APIRouter(
    route_class=SglangRoute,
    tags=["SGLang"],
    responses=refusals(SglangError, 400, 401, 403, 404, 408, 413, 429, 500, 503, 504),
)


class SglangRequest(Foreign):
    """Inputs that the client rendered; the tokenizer adds its special tokens to texts."""

    input: Input
    model: Text = DEFAULT

    @property
    def name(self) -> str:
        """The model to score with."""
        return self.model or DEFAULT


class SglangEmbeddingsRequest(SglangRequest):
    """What ``/v1/embeddings`` may say besides."""

    encoding_format: Literal["float", "base64"] = "float"
    """base64 is what OpenAI's own client asks for."""

    dimensions: None = None


class SglangClassifyRequest(SglangRequest):
    """What ``/v1/classify`` may say besides."""

    use_activation: bool | None = None


class SglangUsage(Answer):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None
    reasoning_tokens: int = 0


class SglangEmbedding(Answer):
    """The numbers of one input."""

    embedding: list[float] | str
    index: int
    object: Literal["embedding"] = "embedding"


class SglangEmbeddings(Answer):
    """Answer of ``/v1/embeddings``."""

    data: list[SglangEmbedding]
    model: str
    object: Literal["list"] = "list"
    usage: SglangUsage


class SglangClasses(Answer):
    """Answer of ``/v1/classify``."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classified]
    usage: SglangUsage


def to_raw(body: SglangRequest) -> RawRequest:
    """The inputs; texts with the tokenizer's special tokens."""
    return RawRequest(inputs=to_inputs(body.input, add_special_tokens=True), model=body.name)


def from_embeddings(
    numbers: Numbers, info: ModelInfo, *, encoding: Literal["float", "base64"]
) -> SglangEmbeddings:
    """The raw numbers of each input."""
    return SglangEmbeddings(
        data=[
            SglangEmbedding(
                index=index, embedding=packed(row) if encoding == "base64" else list(row)
            )
            for index, row in enumerate(numbers.rows)
        ],
        model=info.name,
        usage=_usage(numbers.tokens),
    )


def from_classes(
    numbers: Numbers, info: ModelInfo, *, name: str, body: SglangClassifyRequest, created: int
) -> SglangClasses:
    """What each input is, squashed unless the request says otherwise."""
    return SglangClasses(
        id=f"classify-{name}",
        created=created,
        model=info.name,
        data=classified(numbers, is_squashed=body.use_activation is not False),
        usage=_usage(numbers.tokens),
    )


def _usage(tokens: int) -> SglangUsage:
    return SglangUsage(prompt_tokens=tokens, total_tokens=tokens)


@router.post("/v1/embeddings")
async def sglang_embeddings(body: SglangEmbeddingsRequest, scoring: ScoringDep) -> SglangEmbeddings:
    """SGLang's ``/v1/embeddings`` of a reward model: its raw numbers."""
    info = scoring.find(body.name)
    numbers = numbers_of_raw(await scoring.score_raw(to_raw(body)))
    return from_embeddings(numbers, info, encoding=body.encoding_format)


@router.post("/v1/classify")
async def sglang_classify(
    body: SglangClassifyRequest, scoring: ScoringDep, request: Request
) -> SglangClasses:
    """SGLang's ``/v1/classify``: squashed numbers of the head."""
    info = scoring.find(body.name)
    numbers = numbers_of_raw(await scoring.score_raw(to_raw(body)))
    name = request_name(request)
    return from_classes(numbers, info, name=name, body=body, created=int(time.time()))
