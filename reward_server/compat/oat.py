"""oat's remote reward oracle, ``POST /get_feedback``, in MessagePack.

Peer: oat at commit c1a074c0 (October 2025), ``oracles/remote/{server,client}.py``. Prompts are what
users said and responses are what was answered: the chat template is applied here, with exactly one
beginning token, where the peer's server writes two with Llama 3.

``batch_first_win_prob`` is squashed: the sigmoid of the difference of the two rewards, the
Bradley-Terry model. ``batch_score`` is not. Candidates come before responses where a request has
both, as with the peer; where it has neither, both lists are empty. Two candidates of a prompt are
one group, so that models which compare can compare them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field, ValidationError

from reward_server.compat.base import DEFAULT, Foreign, candidates_of, rewards_of, sigmoid
from reward_server.compat.dialect import broken_rule
from reward_server.dependencies import ScoringDep
from reward_server.errors import InvalidRequest
from reward_server.problems import problems
from reward_server.protocol import ChatMessage, ScoreGroup, ScoreRequest, ScoreResponse, Text

MEDIA_TYPE = "application/msgpack"
_BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(tags=["oat"])

Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


class OatRequest(Foreign):
    """Prompts with a response each, or with two candidates each."""

    batch_prompt: list[Text]
    batch_response: list[Text] = Field(default_factory=list)
    batch_candidates: list[Pair] = Field(default_factory=list)

    @property
    def candidates(self) -> list[list[str]]:
        """The candidates prompt by prompt: two, or one, or no prompts at all."""
        return self.batch_candidates or [[response] for response in self.batch_response]


class OatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Rewards of responses, or probabilities that the first of two candidates is better."""

    batch_score: list[float] = []
    batch_first_win_prob: list[float] = []


def read(body: bytes) -> OatRequest:
    """The request in a MessagePack body.

    Raises:
        InvalidRequest: if the body is not one, or has no such request in it.
    """
    try:
        found = msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("body: cannot be read as MessagePack") from None
    try:
        return OatRequest.model_validate(found)
    except ValidationError as error:
        raise broken_rule(error).error from None


def to_score(body: OatRequest) -> ScoreRequest:
    """One group a prompt.

    Raises:
        InvalidRequest: if there are not as many responses, or pairs, as prompts.
    """
    prompts, candidates = body.batch_prompt, body.candidates
    if len(prompts) != len(candidates):
        field = "batch_candidates" if body.batch_candidates else "batch_response"
        raise InvalidRequest(f"{field}: {len(candidates)} for {len(prompts)} prompts; give as many")
    groups = tuple(
        ScoreGroup(
            id=str(index),
            messages=(ChatMessage(role="user", content=prompt),),
            candidates=tuple(responses),
        )
        for index, (prompt, responses) in enumerate(zip(prompts, candidates, strict=True))
    )
    return ScoreRequest(model=DEFAULT, groups=groups)


def from_score(response: ScoreResponse, body: OatRequest) -> OatAnswer:
    """Probabilities for pairs, rewards for single responses.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    rewards = rewards_of(candidates_of(response))
    if not body.batch_candidates:
        return OatAnswer(batch_score=rewards)
    pairs = zip(rewards[::2], rewards[1::2], strict=True)
    return OatAnswer(batch_first_win_prob=[sigmoid(first - second) for first, second in pairs])


_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "A map in MessagePack: `batch_prompt`, and `batch_response` with a text or "
        "`batch_candidates` with two texts for each of them.",
        "required": True,
        "content": {"application/octet-stream": _BINARY},
    }
}


@router.post(
    "/get_feedback",
    response_class=Response,
    openapi_extra=_BODY,
    responses=problems(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)
    | {200: {"content": {MEDIA_TYPE: _BINARY}, "description": "The answer, in MessagePack."}},
)
async def oat_feedback(request: Request, scoring: ScoringDep) -> Response:
    """The oracle of oat: raw rewards of responses, or win probabilities of pairs."""
    body = read(await request.body())
    answer = OatAnswer()
    if body.candidates:
        answer = from_score(await scoring.score(to_score(body)), body)
    return Response(msgspec.msgpack.encode(answer), media_type=MEDIA_TYPE)
