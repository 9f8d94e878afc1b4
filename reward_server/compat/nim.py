"""NVIDIA NIM's reward models, ``POST /v1/chat/completions``.

Peer: the page "Use Reward Models with NVIDIA NIM for LLMs" of NIM 1.13. The last message, the
assistant's, is what is scored; the answer is a message whose content is ``name:number`` pairs with
commas between them. NVIDIA's hosted endpoint has the same numbers in ``logprobs``, where some
clients read them, so they are there too.

Nothing is squashed. One candidate a request; the content is text, so the numbers are written with
all their digits. A stream of it is refused.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from reward_server.compat.base import (
    DEFAULT,
    Answer,
    Foreign,
    Turns,
    numbers_of_chat,
    request_name,
    to_group,
)
from reward_server.compat.dialect import OPENAI_REFUSALS, OpenAIRoute
from reward_server.dependencies import ScoringDep
from reward_server.protocol import ModelInfo, ScoreRequest, ScoreResponse, Text

_NO_SEPARATORS = str.maketrans(":,", "__")


router = APIRouter(route_class=OpenAIRoute, tags=["NVIDIA NIM"], responses=OPENAI_REFUSALS)


class NimRequest(Foreign):
    """A conversation whose last message is scored; settings of a sampler mean nothing here."""

    model: Text | None = None
    messages: Turns
    stream: Literal[False] | None = False


class NimNumber(Answer):
    """A number in the place of a token."""

    token: str
    logprob: float
    """The number; not a log-probability."""

    bytes: None = None
    top_logprobs: list[str] = Field(default_factory=list, max_length=0)


class NimNumbers(Answer):
    """The numbers of one response."""

    content: list[NimNumber]


class NimMessage(Answer):
    """The numbers as a text."""

    role: Literal["assistant"] = "assistant"
    content: str


class NimChoice(Answer):
    """The only choice."""

    index: Literal[0] = 0
    message: NimMessage
    logprobs: NimNumbers
    finish_reason: Literal["stop"] = "stop"


class NimUsage(Answer):
    """Tokens of the conversation with its response."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class NimCompletion(Answer):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: Annotated[list[NimChoice], Field(min_length=1, max_length=1)]
    usage: NimUsage


def to_score(body: NimRequest) -> ScoreRequest:
    """The last message as the candidate.

    Raises:
        InvalidRequest: if the conversation does not end with a response.
    """
    return ScoreRequest(model=body.model or DEFAULT, groups=(to_group(body.messages),))


def from_score(
    response: ScoreResponse, info: ModelInfo, *, name: str, created: int
) -> NimCompletion:
    """``reward:NUMBER``, or the objectives of a model that has several.

    Raises:
        UnsupportedInput, NoReward: if there is no reward.
    """
    numbers = numbers_of_chat(response, info)
    (row,) = numbers.rows
    names = ["reward"] if len(row) == 1 else numbers.labels
    pairs = [(each.translate(_NO_SEPARATORS), x) for each, x in zip(names, row, strict=True)]
    choice = NimChoice(
        message=NimMessage(content=",".join(f"{each}:{x!r}" for each, x in pairs)),
        logprobs=NimNumbers(content=[NimNumber(token=each, logprob=x) for each, x in pairs]),
    )
    return NimCompletion(
        id=f"chatcmpl-{name}",
        created=created,
        model=info.name,
        choices=[choice],
        usage=NimUsage(prompt_tokens=numbers.tokens, total_tokens=numbers.tokens),
    )


@router.post("/v1/chat/completions")
async def nim_chat_completion(
    body: NimRequest, scoring: ScoringDep, request: Request
) -> NimCompletion:
    """NIM's reward models: raw numbers of the last message, as the text of a completion."""
    info = scoring.find(body.model or DEFAULT)
    response = await scoring.score(to_score(body))
    return from_score(response, info, name=request_name(request), created=int(time.time()))
