"""The seam between the service and whatever gives rewards. Types only: no torch, no HTTP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from reward_server.protocol import (
    CandidateResult,
    EngineName,
    GroupResult,
    Lane,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Call:
    """How a request wants to be scored."""

    on_overflow: OnOverflow = "error"
    lane: Lane = "interactive"
    deadline: float = math.inf
    """Time of ``time.monotonic`` after which nothing of it need be begun."""

    uses_cache: bool = True
    """Whether a reward may come from the cache."""

    on_tokens: Callable[[int], None] = lambda tokens: None
    """Told the tokens of the inputs once they are counted, before anything is computed; what it
    raises ends the request."""


@dataclass(frozen=True, slots=True)
class RawInput:
    """One input as a foreign wire sends it: rendered already, by somebody else.

    Exactly one of ``text`` and ``ids`` is given; ``pair`` only beside ``text``.
    """

    text: str | None = None
    pair: str | None = None
    """Second text of a pair, joined as the tokenizer joins pairs."""

    ids: tuple[int, ...] | None = None
    """Token ids, taken as they are."""

    add_special_tokens: bool = True
    """Whether the tokenizer adds its own special tokens; never a second BOS."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request of a foreign wire for raw inputs."""

    inputs: tuple[RawInput, ...]
    model: str = "default"
    on_overflow: OnOverflow = "error"
    lane: Lane = "interactive"


@dataclass(frozen=True, slots=True)
class RawScored:
    """Results of raw inputs, in their order."""

    results: tuple[CandidateResult, ...]
    usage: Usage
    labels: tuple[tuple[float, ...], ...]
    """All numbers of the head, input by input; one each for a reward model, and none where the
    result is an error."""

    engine: EngineName | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """Rewards of one request and what they took."""

    groups: tuple[GroupResult, ...]
    usage: Usage
    engine: EngineName | None = None
    padding_tokens: int = 0
    """Positions that the device computed for nothing."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time by phase: ``render``, ``wait`` for the device, ``forward``."""


class Scoring(Protocol):
    """What the routes of every wire do with a request: the service, bound to one caller."""

    def find(self, name: str) -> ModelInfo:
        """The model of that name or alias.

        Raises:
            UnknownModel: if it is not served here.
        """
        ...

    def models(self) -> Sequence[ModelInfo]:
        """All served models, the default first."""
        ...

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Rewards of all candidates of all groups.

        Raises:
            RewardServerError: if the request cannot be scored as a whole.
        """
        ...

    async def score_raw(self, request: RawRequest) -> RawScored:
        """Rewards of inputs that somebody else rendered.

        Raises:
            UnsupportedInput: if the model's kind needs conversations.
            RewardServerError: if the request cannot be scored as a whole.
        """
        ...


class Scorer(Protocol):
    """Gives rewards to groups. All methods are called on the event loop and do not block it."""

    @property
    def info(self) -> ModelInfo:
        """The model's name, fingerprint and limits; never changes."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether a request would be scored now."""
        ...

    def start(self) -> None:
        """Begins to take requests."""
        ...

    async def aclose(self) -> None:
        """Refuses new requests, finishes admitted ones and lets go of the device."""
        ...

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        """Scores all candidates, results in the order of ``groups``.

        Raises:
            RewardServerError: if the request cannot be scored as a whole. What concerns one
                candidate is an error in its result.
        """
        ...


@runtime_checkable
class RawScorer(Scorer, Protocol):
    """A scorer that also reads inputs which somebody else rendered."""

    async def score_raw(self, inputs: Sequence[RawInput], call: Call) -> RawScored:
        """Scores inputs without rendering them.

        Raises:
            RewardServerError: if the request cannot be scored as a whole.
        """
        ...
