"""The service behind the routes: who asks, what is served, what it costs, what is written down.

One request goes: model found, limits and pin held against it, model kept open, tokens charged when
they are counted, rewards seen against the calibration, line in the audit log. Knows no HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from reward_server.access import Caller, Quotas
from reward_server.audit import AuditLog
from reward_server.audit_record import Entry
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    FingerprintMismatch,
    LimitExceeded,
    RewardServerError,
    UnsupportedInput,
)
from reward_server.metrics import Metrics
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    ModelInfo,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
)
from reward_server.registry import Registry, Served
from reward_server.scorer import Call, RawRequest, RawScored, RawScorer

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Service:
    """What all requests share."""

    config: RewardServerConfig
    registry: Registry
    metrics: Metrics
    quotas: Quotas
    audit: AuditLog | None


@dataclass(slots=True)
class Receipt:
    """What is told of a scored request beside its body."""

    model: str | None = None
    """Its own name, whatever alias was asked for."""

    fingerprint: str | None = None
    phases: dict[str, float] = field(default_factory=dict)


class BoundService:
    """The service for one request of one caller; implements ``scorer.Scoring``."""

    def __init__(self, service: Service, caller: Caller, *, request_id: str, route: str) -> None:
        self._service = service
        self._caller = caller
        self._request_id = request_id
        self._route = route
        self.receipt = Receipt()

    def find(self, name: str) -> ModelInfo:
        return self._service.registry.info(self._service.registry.find(name))

    def models(self) -> Sequence[ModelInfo]:
        registry = self._service.registry
        return [registry.info(served) for served in registry.all()]

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        started = time.perf_counter()
        try:
            response = await self._score(request, started)
        except RewardServerError as error:
            await self._record(request, error, started)
            raise
        await self._record(request, response, started)
        return response

    async def score_raw(self, request: RawRequest) -> RawScored:
        started = time.perf_counter()
        try:
            scored = await self._score_raw(request, started)
        except RewardServerError as error:
            await self._record(request, error, started)
            raise
        await self._record(request, scored, started)
        return scored

    async def _score(self, request: ScoreRequest, started: float) -> ScoreResponse:
        served = self._service.registry.find(request.model)
        fingerprint = self._pin(served, request.expected_fingerprint)
        check_limits(request.groups, self._service.config)
        charge = Charge(self._service.quotas, self._caller)
        call = Call(
            on_overflow=request.on_overflow,
            lane=request.lane,
            deadline=_deadline(request.deadline_ms),
            uses_cache=request.use_cache,
            on_tokens=charge.take,
        )
        async with served.lease():
            with charge:
                scored = await served.scorer.score(request.groups, call)
        groups = tuple(
            GroupResult(id=group.id, results=tuple(view(served, each) for each in group.results))
            for group in scored.groups
        )
        results = [each for group in groups for each in group.results]
        self.receipt.phases = self._service.metrics.observe(
            results, scored.usage, dict(scored.seconds), seconds=time.perf_counter() - started
        )
        self._log(len(groups), len(results), scored.usage.tokens)
        return ScoreResponse(
            model=request.model,
            fingerprint=fingerprint,
            groups=groups,
            usage=scored.usage,
            engine=scored.engine,
        )

    async def _score_raw(self, request: RawRequest, started: float) -> RawScored:
        served = self._service.registry.find(request.model)
        self._pin(served, None)
        scorer = served.scorer
        if not isinstance(scorer, RawScorer):
            kind = scorer.info.identity.kind
            raise UnsupportedInput(
                f"model: {request.model!r} is of kind {kind}, which needs a conversation and its "
                "candidates; send them to /v1/score"
            )
        limit = self._service.config.max_candidates_per_group
        if len(request.inputs) > limit:
            raise LimitExceeded(f"inputs: {len(request.inputs)}, limit {limit}; split the request")
        charge = Charge(self._service.quotas, self._caller)
        call = Call(on_overflow=request.on_overflow, lane=request.lane, on_tokens=charge.take)
        async with served.lease():
            with charge:
                scored = await scorer.score_raw(request.inputs, call)
        for each in scored.results:
            view(served, each)
        self.receipt.phases = self._service.metrics.observe(
            scored.results,
            scored.usage,
            dict(scored.seconds),
            seconds=time.perf_counter() - started,
        )
        self._log(0, len(scored.results), scored.usage.tokens)
        return scored

    def _pin(self, served: Served, expected: str | None) -> str:
        fingerprint = served.scorer.info.fingerprint
        self.receipt.model, self.receipt.fingerprint = served.name, fingerprint
        if expected not in (None, fingerprint):
            raise FingerprintMismatch(
                f"expected_fingerprint: {expected!r}, served is {fingerprint!r}"
            )
        return fingerprint

    def _log(self, groups: int, candidates: int, tokens: int) -> None:
        phases = {name: round(seconds, 6) for name, seconds in self.receipt.phases.items()}
        log.info(
            "request.scored",
            caller=self._caller.name,
            groups=groups,
            candidates=candidates,
            tokens=tokens,
            **phases,
        )

    async def _record(
        self,
        request: ScoreRequest | RawRequest,
        outcome: ScoreResponse | RawScored | RewardServerError,
        started: float,
    ) -> None:
        if self._service.audit is None:
            return
        has_scored = not isinstance(outcome, RewardServerError)
        await self._service.audit.record(
            Entry(
                request_id=self._request_id,
                caller=self._caller.name,
                route=self._route,
                request=request,
                outcome=outcome,
                seconds=time.perf_counter() - started,
                model=(has_scored and self.receipt.model) or request.model,
                fingerprint=self.receipt.fingerprint,
            )
        )


class Charge:
    """Takes a request's tokens from its caller's quota, and gives them back if it fails."""

    def __init__(self, quotas: Quotas, caller: Caller) -> None:
        self._quotas = quotas
        self._caller = caller
        self._taken = 0

    def take(self, tokens: int) -> None:
        """Charges tokens that were counted.

        Raises:
            QuotaExceeded: if the caller has not that many left.
        """
        self._quotas.take(self._caller, tokens)
        self._taken += tokens

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        if kind is not None and self._taken:
            self._quotas.give_back(self._caller, self._taken)


def view(served: Served, result: CandidateResult) -> CandidateResult:
    """``result`` beside its calibrated views, where the model has a calibration."""
    if result.reward is None or served.calibration is None or served.drift is None:
        return result
    served.drift.observe(result.reward, result.tokens)
    return result.model_copy(update={"calibrated": served.calibration.view(result.reward)})


def check_limits(groups: Sequence[ScoreGroup], config: RewardServerConfig) -> None:
    """Holds a request against the configured limits.

    Raises:
        LimitExceeded: naming what is too much, its size and the limit.
    """
    if len(groups) > config.max_groups_per_request:
        raise LimitExceeded(
            f"groups: {len(groups)}, limit {config.max_groups_per_request}; split the request"
        )
    for group in groups:
        if len(group.candidates) > config.max_candidates_per_group:
            raise LimitExceeded(
                f"group {group.id!r}: {len(group.candidates)} candidates, "
                f"limit {config.max_candidates_per_group}; split the group"
            )


def _deadline(milliseconds: int | None) -> float:
    return math.inf if milliseconds is None else time.monotonic() + milliseconds / 1000
