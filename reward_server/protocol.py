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
Lane = Literal["interactive", "bulk"]
DType = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["packed", "padded"]
Kind = Literal[
    "sequence_classification",
    "multi_objective",
    "pairwise",
    "judge",
    "implicit",
    "rules",
    "ensemble",
]
ItemErrorCode = Literal[
    "non_finite_reward",
    "out_of_memory",
    "no_rival",
    "no_reference",
    "judge_failed",
    "rule_failed",
    "member_failed",
]


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

    reference: Text | None = None
    """The known answer, for the kinds of reward that check against one."""

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

    lane: Lane = "interactive"
    """Bulk work waits for interactive work, but never for ever."""

    deadline_ms: int | None = Field(default=None, ge=1)
    """Milliseconds from arrival after which the caller has no use for the rewards: what has not
    begun by then is not computed, and the answer is 504."""

    use_cache: bool = True
    """Whether a reward may be one that was computed before; if not, all are computed anew."""


class ItemError(Wire):
    """Why one candidate has no reward."""

    code: ItemErrorCode
    detail: str


class Calibrated(Wire):
    """A reward seen against the rewards of a reference set. Views of it, never in its place."""

    artefact: str
    """Id of the calibration that made the views."""

    z_score: FiniteFloat
    """Standard deviations above the mean of the reference rewards."""

    percentile: float = Field(ge=0, le=100)
    """Share of the reference rewards below it, ties counted half, in percent."""

    win_probability: float = Field(ge=0, le=1)
    """Mean Bradley-Terry probability of beating a response of the reference set."""


class CandidateResult(Wire):
    """The reward of one candidate, or the error in its place."""

    reward: FiniteFloat | None
    """Raw number of the reward model (a logit, for one with a head): unbounded, not squashed."""

    tokens: int = Field(ge=0)
    """Length of the scored input: conversation, candidate and template, in tokens. 0 where no
    model of this server read it."""

    truncated_tokens: int = Field(default=0, ge=0)
    """Tokens of the conversation that were cut to make the input fit."""

    error: ItemError | None = None

    parts: dict[str, FiniteFloat] | None = None
    """The named numbers that the reward was made of: objectives, members, criteria, orders."""

    disagreement: FiniteFloat | None = None
    """Standard deviation between the voices behind the reward, where it has several."""

    calibrated: Calibrated | None = None

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
    """Tokens that went through the model, padding not counted; below ``tokens`` where prefixes
    were shared or rewards were cached."""

    cached_candidates: int = Field(default=0, ge=0)
    """Candidates whose reward came from the cache."""


class ScoreResponse(Wire):
    """Answer of ``POST /v1/score``; groups in the order of the request."""

    model: str
    fingerprint: str
    groups: tuple[GroupResult, ...]
    usage: Usage
    engine: EngineName | None = None
    """``packed``: candidates shared the forward pass of their conversation; ``padded``: each was
    computed with its whole conversation; ``null`` where no model of this server computed."""


class Head(Wire):
    """How hidden states become numbers."""

    architecture: str
    """Class of the model."""

    num_labels: int
    pooling: Literal["last_token", "own", "log_probability"]
    """The hidden state of the last token; the model's own classifier; or the summed
    log-probability of the candidate."""


class Identity(Wire):
    """Everything that decides a reward; digests are sha256 in hex.

    A kind of reward without a model of its own leaves the model's fields out.
    """

    kind: Kind = "sequence_classification"
    weights: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    config: str | None = None
    adapter: str | None = None
    dtype: DType | None = None
    head: Head | None = None
    members: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the reward models that this one is made of, by name."""

    parameters: dict[str, str | float | int | bool] = Field(default_factory=dict)
    """Settings of the kind that decide the reward: weights of objectives, beta, prompts, rules."""


class ModelInfo(Wire):
    """Answer of ``GET /v1/models/{name}``."""

    name: str
    fingerprint: str
    """16 hex digits over ``identity``: equal fingerprints give equal rewards."""

    identity: Identity
    max_length: int | None = None
    """Longest input in tokens, where there is a limit."""

    device: str | None = None
    engine: EngineName | None = None
    engine_reason: str | None = None
    """Why inputs are not packed, where they are not."""

    is_deterministic: bool = False
    """Whether a reward is the same to the last bit whatever shares its batch."""

    revision: str | None = None
    """Commit of the model on the hub, where it came from there."""

    software: dict[str, str] = Field(default_factory=dict)
    """Versions of what computes; not part of the fingerprint."""

    calibration: str | None = None
    """Id of the calibration in use."""

    aliases: tuple[str, ...] = ()
    """Further names that requests may use for it."""


class ListedModel(Wire):
    """One model as clients of OpenAI's API list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["medpref"] = "medpref"


class ModelList(Wire):
    """Answer of ``GET /v1/models``; ``object`` and ``data`` are for clients of OpenAI's API."""

    models: tuple[ModelInfo, ...]
    object: Literal["list"] = "list"
    data: tuple[ListedModel, ...] = ()

    @classmethod
    def of(cls, models: Sequence[ModelInfo]) -> Self:
        """The list of ``models``, with their aliases among the names in ``data``."""
        names = [name for model in models for name in (model.name, *model.aliases)]
        data = tuple(ListedModel(id=name) for name in names)
        return cls(models=tuple(models), data=data)


class AliasTarget(Wire):
    """Body of ``PUT /v1/admin/aliases/{alias}``."""

    model: str
    """Name of a served model."""


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
