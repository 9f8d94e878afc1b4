"""LLaMA-Factory's reward API, ``POST /v1/score/evaluation``.

Peer: LLaMA-Factory at commit ff6d4d12 (August 2026), ``api/{app,chat,protocol}.py``, and the
client of its PPO trainer in ``train/ppo/ppo_utils.py``. The client sends what its policy's
tokenizer decodes, special tokens included, always names the model ``model``, and looks at no
status: an error ends its run with a ``KeyError`` for ``scores``.

Nothing is squashed. A model name that is not served means the default one. The peer cuts texts at
``max_length`` at their end, where the reward is read; here what is longer is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from reward_server.compat.base import (
    DEFAULT,
    Answer,
    Foreign,
    refuse_longer,
    request_name,
    rewards_of,
)
from reward_server.compat.dialect import DialectRoute, Refusal, Written, refusals
from reward_server.dependencies import ScoringDep
from reward_server.errors import UnknownModel
from reward_server.protocol import Text
from reward_server.scorer import RawInput, RawRequest, RawScored, Scoring


class LlamaFactoryError(Answer):
    """What is wrong, as FastAPI says it."""

    detail: str


def llama_factory_error(refusal: Refusal) -> Written:
    """A refusal as LLaMA-Factory's application writes it: an empty list is 400."""
    is_empty = refusal.field == "messages" and refusal.rule == "too_short"
    status = 400 if is_empty else refusal.error.status
    return Written(status, LlamaFactoryError(detail=str(refusal.error)))


class LlamaFactoryRoute(DialectRoute):
    """Refuses in FastAPI's words."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """As :func:`llama_factory_error`."""
        return llama_factory_error(refusal)


router = APIRouter(route_class=LlamaFactoryRoute, tags=["LLaMA-Factory"])


class LlamaFactoryRequest(Foreign):
    """Texts to score."""

    model: Text = DEFAULT
    messages: Annotated[list[Text], Field(min_length=1)]
    """Whole conversations, each rendered as one text."""

    max_length: int | None = Field(default=None, ge=1)
    """Longest text in tokens."""


class LlamaFactoryAnswer(Answer):
    """Rewards in the order of the texts."""

    id: str
    object: Literal["score.evaluation"] = "score.evaluation"
    model: str
    """As it was asked for."""

    scores: list[float]


def to_raw(body: LlamaFactoryRequest, *, model: str) -> RawRequest:
    """The texts as they are; special tokens are in them already."""
    inputs = tuple(RawInput(text=text, add_special_tokens=False) for text in body.messages)
    return RawRequest(inputs=inputs, model=model)


def from_raw(scored: RawScored, body: LlamaFactoryRequest, *, name: str) -> LlamaFactoryAnswer:
    """The rewards of a request called ``name``.

    Raises:
        CandidateTooLong: if a text is above ``max_length``.
        UnsupportedInput, NoReward: if a reward is missing.
    """
    if body.max_length is not None:
        refuse_longer(scored.results, limit=body.max_length, field="max_length")
    scores = rewards_of(scored.results)
    return LlamaFactoryAnswer(id=f"scoreval-{name}", model=body.model, scores=scores)


def served_or_default(name: str, scoring: Scoring) -> str:
    """The name itself where a model is served under it, else the default."""
    try:
        scoring.find(name)
    except UnknownModel:
        return DEFAULT
    return name


@router.post(
    "/v1/score/evaluation",
    responses=refusals(LlamaFactoryError, 400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504),
)
async def llama_factory_scores(
    body: LlamaFactoryRequest, scoring: ScoringDep, request: Request
) -> LlamaFactoryAnswer:
    """LLaMA-Factory's ``/v1/score/evaluation``: raw rewards of rendered texts."""
    model = served_or_default(body.model, scoring)
    scored = await scoring.score_raw(to_raw(body, model=model))
    return from_raw(scored, body, name=request_name(request))
