"""A service without a model, and an application with all wires over it.

Reward = length of the rendered input in characters, quartered: exact in any float. Tokens = the
same length. An input with ``poison`` in it has no reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from reward_server.compat import ROUTERS
from reward_server.errors import CandidateTooLong, RewardServerError, UnknownModel, UnsupportedInput
from reward_server.problems import add_handlers
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Head,
    Identity,
    ItemError,
    Kind,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from reward_server.scorer import RawInput, RawRequest, RawScored, Scoring

MAX_LENGTH = 64
REQUEST_ID = "r-1"
OBJECTIVES = ("helpfulness", "correctness", "verbosity")


def model(name: str, kind: Kind, *, num_labels: int = 1) -> ModelInfo:
    head = Head(architecture="Fake", num_labels=num_labels, pooling="last_token")
    identity = Identity(kind=kind, dtype="float32", head=head if kind != "rules" else None)
    return ModelInfo(
        name=name, fingerprint="f" * 16, identity=identity, max_length=MAX_LENGTH, revision="abc"
    )


MODELS = (
    model("default", "sequence_classification"),
    model("objectives", "multi_objective", num_labels=3),
    model("rules", "rules"),
)


def rendered(group: ScoreGroup, candidate: str) -> str:
    turns = [*((m.role, m.content) for m in group.messages), ("assistant", candidate)]
    return "".join(f"{role[0]}:{content};" for role, content in turns)


def raw(given: RawInput) -> str:
    if given.ids is not None:
        return "#" * len(given.ids)
    bos = "^" if given.add_special_tokens else ""
    return bos + (given.text or "") + (given.pair or "")


def worth(text: str) -> float:
    return len(text) / 4


@dataclass
class FakeScoring:
    """Remembers what it was asked; ``raises`` is raised in place of an answer."""

    raises: RewardServerError | None = None
    scored: list[ScoreRequest] = field(default_factory=list)
    scored_raw: list[RawRequest] = field(default_factory=list)

    def find(self, name: str) -> ModelInfo:
        for info in MODELS:
            if info.name == name:
                return info
        raise UnknownModel(f"model: {name!r} is not served; this server has 'default'")

    def models(self) -> Sequence[ModelInfo]:
        return MODELS

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        self.scored.append(request)
        info = self._ready(request.model)
        groups = tuple(
            GroupResult(
                id=group.id,
                results=tuple(
                    _result(rendered(group, each), info, request.on_overflow)
                    for each in group.candidates
                ),
            )
            for group in request.groups
        )
        results = [result for group in groups for result in group.results]
        return ScoreResponse(
            model=info.name, fingerprint=info.fingerprint, groups=groups, usage=_usage(results)
        )

    async def score_raw(self, request: RawRequest) -> RawScored:
        self.scored_raw.append(request)
        info = self._ready(request.model)
        if info.identity.kind == "rules":
            raise UnsupportedInput("model: 'rules' scores conversations, not rendered texts")
        results = tuple(_result(raw(each), info, request.on_overflow) for each in request.inputs)
        labels = tuple(
            () if each.reward is None else tuple((each.parts or {"": each.reward}).values())
            for each in results
        )
        return RawScored(results=results, usage=_usage(results), labels=labels)

    def _ready(self, name: str) -> ModelInfo:
        if self.raises:
            raise self.raises
        return self.find(name)


def _result(text: str, info: ModelInfo, on_overflow: OnOverflow) -> CandidateResult:
    excess = max(0, len(text) - MAX_LENGTH)
    if excess and on_overflow == "error":
        raise CandidateTooLong(f"input: {len(text)} tokens, limit {MAX_LENGTH}")
    text = text[excess:]
    if "poison" in text:
        error = ItemError(code="non_finite_reward", detail="the model gave nan")
        return CandidateResult(reward=None, tokens=len(text), error=error)
    reward = worth(text)
    parts = {name: reward - i for i, name in enumerate(OBJECTIVES)}
    return CandidateResult(
        reward=reward,
        tokens=len(text),
        truncated_tokens=excess,
        parts=parts if info.identity.kind == "multi_objective" else None,
    )


def _usage(results: Sequence[CandidateResult]) -> Usage:
    tokens = sum(result.tokens for result in results)
    return Usage(tokens=tokens, computed_tokens=tokens)


class Named:
    """Gives requests a name, as the real application's outermost layer does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"x-request-id", REQUEST_ID.encode())
            scope.setdefault("state", {})["request_id"] = given.decode()
        await self._app(scope, receive, send)


def make_app(
    scoring: Scoring,
    *,
    routers: Sequence[APIRouter] = ROUTERS,
    is_ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.state.scoring_for = lambda request: scoring
    app.state.is_ready = is_ready
    for router in routers:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Named)
    return app
