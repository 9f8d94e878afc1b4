"""The wire types of the reward server: what crosses HTTP, and nothing else.

Every type is frozen and refuses unknown fields. A reward is a finite raw logit or it is absent
beside a typed error: NaN and infinity cannot be expressed. This module knows no model, no
tokenizer and no transport, and imports neither torch nor a web framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from corpora.conversation import Conversation, Role

OnOverflow = Literal["error", "truncate"]
DType = Literal["float32", "bfloat16"]
ItemErrorCode = Literal["non_finite_reward"]


def _encodable(text: str) -> str:
    # JSON can spell half a surrogate pair; no tokenizer can read one.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds an unpaired surrogate, which is not valid Unicode text") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Wire(BaseModel):
    """Base of all wire types."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ChatMessage(Wire):
    """One turn of a conversation."""

    role: Role
    content: Text


class ScoreGroup(Wire):
    """A conversation with its candidates."""

    id: Text
    """The caller's name for the group, returned as it came."""

    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    """The conversation; it ends where a response is due, so never with the assistant."""

    candidates: tuple[Text, ...] = Field(min_length=1)
    """Responses to score, in the order in which rewards come back."""

    @model_validator(mode="after")
    def _ends_where_a_response_is_due(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise ValueError("messages end with the assistant; move that turn to candidates")
        return self

    @classmethod
    def of(cls, name: str, conversation: Conversation, candidates: Sequence[str]) -> Self:
        """The group of ``conversation`` and ``candidates``, called ``name``."""
        messages = tuple(ChatMessage(role=m.role, content=m.content) for m in conversation.messages)
        return cls(id=name, messages=messages, candidates=tuple(candidates))


class ScoreRequest(Wire):
    """Body of ``POST /v1/score``."""

    model: str = "default"
    """Name of the reward model."""

    groups: tuple[ScoreGroup, ...] = Field(min_length=1)

    on_overflow: OnOverflow = "error"
    """What to do with an input above the model's length: refuse the request, or cut the beginning
    of the conversation (never the candidate) and report ``truncated_tokens``."""

    expected_fingerprint: str | None = None
    """If given and not the fingerprint of the served model, the answer is 409."""


class ItemError(Wire):
    """Why one candidate has no reward."""

    code: ItemErrorCode
    detail: str


class CandidateResult(Wire):
    """The reward of one candidate, or the error in its place."""

    reward: FiniteFloat | None
    """Raw logit of the reward head, unbounded, neither squashed nor scaled."""

    tokens: int = Field(ge=1)
    """Length of the scored input: conversation, candidate and template, in tokens."""

    truncated_tokens: int = Field(default=0, ge=0)
    """Tokens of the conversation that were cut to make the input fit."""

    error: ItemError | None = None

    @model_validator(mode="after")
    def _is_reward_or_error(self) -> Self:
        if (self.reward is None) == (self.error is None):
            raise ValueError("a result is either a reward or an error")
        return self


class GroupResult(Wire):
    """Results of one group, candidate by candidate in the order of the request."""

    id: str
    results: tuple[CandidateResult, ...]


class Usage(Wire):
    """Work behind one answer."""

    tokens: int = Field(ge=0)
    """Sum of ``tokens`` over all candidates."""

    computed_tokens: int = Field(ge=0)
    """Tokens that went through the model, padding not counted."""


class ScoreResponse(Wire):
    """Answer of ``POST /v1/score``; groups in the order of the request."""

    model: str
    fingerprint: str
    groups: tuple[GroupResult, ...]
    usage: Usage


class Head(Wire):
    """How hidden states become a reward."""

    architecture: str
    """Class of the model."""

    num_labels: int
    pooling: Literal["last_token"]
    """The position whose hidden state is scored."""


class Identity(Wire):
    """Everything that decides a reward; digests are sha256 in hex."""

    weights: str
    tokenizer: str
    template: str
    config: str
    dtype: DType
    head: Head


class ModelInfo(Wire):
    """Answer of ``GET /v1/models/{name}``."""

    name: str
    fingerprint: str
    """16 hex digits over ``identity``: equal fingerprints give equal rewards."""

    identity: Identity
    max_length: int
    """Longest input in tokens."""

    device: str


class ModelList(Wire):
    """Answer of ``GET /v1/models``."""

    models: tuple[ModelInfo, ...]


class Health(Wire):
    """Answer of the health routes."""

    status: Literal["live", "ready"]


class FieldProblem(Wire):
    """One field of a request that does not fit. Never quotes the value."""

    field: str
    detail: str


class Problem(Wire):
    """RFC 9457 problem document, media type ``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable name of the problem, as in the error tree."""

    retryable: bool
    """Whether the same request may succeed later."""

    request_id: str
    errors: tuple[FieldProblem, ...] = ()
