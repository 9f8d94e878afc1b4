"""What the foreign wires share: the way to the service, the forms of inputs, and the numbers.

A wire is a pure translation between a peer's bodies and ``scorer.Scoring``. What has no reward is
never a number on any wire: it is an error for the whole request. Knows no model, no tokenizer, no
torch and no peer; how refusals are worded is in ``dialect``.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from corpora.conversation import Role
from reward_server.errors import (
    CandidateTooLong,
    InvalidRequest,
    RewardServerError,
    UnsupportedInput,
)
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    ModelInfo,
    ScoreGroup,
    ScoreResponse,
    Text,
)
from reward_server.scorer import RawInput, RawScored

DEFAULT = "default"
"""The model of a request that names none."""

REQUEST_FAULTS = ("no_rival", "no_reference")
"""Errors of a candidate that lie in what was asked, not in what happened."""


ModelQuery = Annotated[
    Text, Query(alias="model", description="The model to score with; the body cannot name one.")
]


def request_name(request: Request, *, given: str | None = None) -> str:
    """The caller's name of the request: its header, else its body, else the one made here."""
    name: str = request.scope["state"]["request_id"]
    return name if given is None or "x-request-id" in request.headers else given


class NoReward(RewardServerError):
    """An input got no reward, and the wire has no place to say so beside the others."""

    status, code, title = 500, "no_reward", "An input got no reward"


class Foreign(BaseModel):
    """Body of a foreign client: what it says beyond what is read here is ignored."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Answer(BaseModel):
    """Body of an answer to a foreign client."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class TextPart(Foreign):
    """A piece of a message, as OpenAI's clients write them."""

    type: Literal["text"]
    text: Text


class ChatTurn(Foreign):
    """One message of a conversation."""

    role: Role
    content: Text | Annotated[list[TextPart], Field(min_length=1)]

    def to_message(self) -> ChatMessage:
        """The message; its parts become lines of one text, as with vLLM."""
        if isinstance(self.content, str):
            return ChatMessage(role=self.role, content=self.content)
        return ChatMessage(role=self.role, content="\n".join(part.text for part in self.content))


Turns = Annotated[list[ChatTurn], Field(min_length=1)]


def to_group(turns: Sequence[ChatTurn], *, field: str = "messages") -> ScoreGroup:
    """The group of a conversation whose last message is the response to score.

    Raises:
        InvalidRequest: if it does not end with one response to somebody's message.
    """
    *conversation, last = [turn.to_message() for turn in turns]
    if last.role != "assistant":
        raise InvalidRequest(
            f"{field}: the last message is of role {last.role!r}; end with the assistant's "
            "response, which is what is scored"
        )
    return answered(conversation, last.content, field=field)


def answered(messages: Sequence[ChatMessage], response: str, *, field: str) -> ScoreGroup:
    """The group of a conversation and the one response to score.

    Raises:
        InvalidRequest: if the conversation does not end where a response is due.
    """
    if not messages or messages[-1].role == "assistant":
        raise InvalidRequest(f"{field}: no user's message before the response; put it there")
    return ScoreGroup(id="0", messages=tuple(messages), candidates=(response,))


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Texts = Text | Annotated[list[Text], Field(min_length=1)]
Input = (
    Text
    | Annotated[list[Text], Field(min_length=1)]
    | TokenIds
    | Annotated[list[TokenIds], Field(min_length=1)]
)
"""Inputs as OpenAI's API has them: one or several, each a text or token ids."""


def texts_of(texts: str | list[str]) -> list[str]:
    """One text or several, as several."""
    return [texts] if isinstance(texts, str) else texts


def to_inputs(given: Input, *, add_special_tokens: bool) -> tuple[RawInput, ...]:
    """One raw input for each text or list of token ids."""
    if isinstance(given, str) or isinstance(given[0], int):
        return (_to_input(given, add_special_tokens=add_special_tokens),)
    return tuple(_to_input(each, add_special_tokens=add_special_tokens) for each in given)


def _to_input(given: object, *, add_special_tokens: bool) -> RawInput:
    if isinstance(given, str):
        return RawInput(text=given, add_special_tokens=add_special_tokens)
    assert isinstance(given, list)
    return RawInput(ids=tuple(given))


def rewards_of(results: Sequence[CandidateResult]) -> list[float]:
    """The rewards, in order.

    Raises:
        UnsupportedInput: if one is missing for the way in which it was asked for.
        NoReward: if one is missing for another reason.
    """
    rewards = []
    for index, result in enumerate(results):
        if result.reward is None:
            assert result.error
            kind = UnsupportedInput if result.error.code in REQUEST_FAULTS else NoReward
            raise kind(f"input {index}: {result.error.code}: {result.error.detail}")
        rewards.append(result.reward)
    return rewards


def candidates_of(response: ScoreResponse) -> list[CandidateResult]:
    """The results of all groups in one row."""
    return [result for group in response.groups for result in group.results]


def refuse_longer(results: Sequence[CandidateResult], *, limit: int, field: str) -> None:
    """Holds inputs against a peer's wish to cut what is longer: it is refused instead.

    Raises:
        CandidateTooLong: naming the field, the input and its length.
    """
    for index, result in enumerate(results):
        if result.tokens > limit:
            raise CandidateTooLong(
                f"{field}: input {index} has {result.tokens} tokens, limit {limit}; "
                "the end of a response is never cut: shorten the input or raise the limit"
            )


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the head says of some inputs, before any activation.

    Attributes:
        rows: input by input, one number a label.
        rewards: input by input, the reward.
        labels: names of the columns of ``rows``.
        tokens: length of all inputs together.
    """

    rows: tuple[tuple[float, ...], ...]
    rewards: tuple[float, ...]
    labels: tuple[str, ...]
    tokens: int


def numbers_of_raw(scored: RawScored) -> Numbers:
    """All numbers of the head, for inputs that somebody else rendered.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    rewards = rewards_of(scored.results)
    return Numbers(
        rows=scored.labels,
        rewards=tuple(rewards),
        labels=_labels(scored.results[0], width=len(scored.labels[0])),
        tokens=scored.usage.tokens,
    )


def numbers_of_chat(response: ScoreResponse, info: ModelInfo) -> Numbers:
    """The objectives of a model that has several, else the reward as the only number.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    results = candidates_of(response)
    rewards = rewards_of(results)
    has_objectives = info.identity.kind == "multi_objective"
    rows = tuple(
        tuple(result.parts.values()) if has_objectives and result.parts else (reward,)
        for result, reward in zip(results, rewards, strict=True)
    )
    return Numbers(
        rows=rows,
        rewards=tuple(rewards),
        labels=_labels(results[0], width=len(rows[0])),
        tokens=response.usage.tokens,
    )


def _labels(result: CandidateResult, *, width: int) -> tuple[str, ...]:
    names = tuple(result.parts or ())
    if width > 1 and len(names) == width:
        return names
    return tuple(f"LABEL_{index}" for index in range(width))  # as transformers names them


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), for logits of any size."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1 + odds)


def softmax(logits: Sequence[float]) -> list[float]:
    """exp(logit) over their sum, for logits of any size."""
    # Less the largest, not the one of largest magnitude: beside that one, exp could overflow.
    largest = max(logits)
    odds = [math.exp(logit - largest) for logit in logits]
    total = math.fsum(odds)
    return [each / total for each in odds]


def probabilities(logits: Sequence[float]) -> list[float]:
    """What classifiers answer unless told otherwise: sigmoid of one logit, softmax of several.

    The rule of vLLM (``PoolerClassify``) and of text-embeddings-inference (``Infer::predict``).
    """
    return [sigmoid(logits[0])] if len(logits) == 1 else softmax(logits)


class Classified(Answer):
    """What one input is, as vLLM and SGLang say it."""

    index: int
    label: str
    """Name of the largest number."""

    probs: list[float]
    """Probabilities, or raw numbers where activation was switched off."""

    num_classes: int


def classified(numbers: Numbers, *, is_squashed: bool) -> list[Classified]:
    """Each input with its numbers, which are probabilities if ``is_squashed``."""
    return [
        Classified(
            index=index,
            label=numbers.labels[row.index(max(row))],
            probs=probabilities(row) if is_squashed else list(row),
            num_classes=len(row),
        )
        for index, row in enumerate(numbers.rows)
    ]


def packed(row: Sequence[float], *, order: Literal["=", "<", ">"] = "=") -> str:
    """Numbers as float32 bytes in base64; ``order`` of the bytes as in :mod:`struct`."""
    return base64.b64encode(struct.pack(f"{order}{len(row)}f", *row)).decode()
