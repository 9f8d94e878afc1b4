"""The HTTP face: routes, limits and answers. Rewards come from a ``Scorer`` given from outside.

Nothing here blocks the event loop: rendering and forward run on the device thread. Routes hold no
error handling; what they raise becomes a problem document in ``problems``. Knows nothing of
torch, files or sockets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from reward_server.config import RewardServerConfig
from reward_server.device import DeviceThread
from reward_server.errors import DeviceFailed, FingerprintMismatch, LimitExceeded, UnknownModel
from reward_server.metrics import Metrics
from reward_server.middleware import BufferedRequest, RequestId
from reward_server.problems import MEDIA_TYPE, add_handlers
from reward_server.protocol import (
    Health,
    ModelInfo,
    ModelList,
    Problem,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
)
from reward_server.scorer import Scorer

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Service:
    """One model, its device thread and its counters."""

    def __init__(
        self,
        config: RewardServerConfig,
        scorer: Scorer,
        on_device_failure: Callable[[BaseException], None],
    ) -> None:
        self.config = config
        self.info = scorer.info
        self.device = DeviceThread(
            scorer, max_pending=config.max_pending_candidates, on_failure=on_device_failure
        )
        self.metrics = Metrics(
            pending=lambda: self.device.pending, ready=lambda: self.device.is_ready
        )

    def find(self, name: str) -> ModelInfo:
        """The model of that name.

        Raises:
            UnknownModel: if it is not served here.
        """
        if name != self.info.name:
            raise UnknownModel(f"model: {name!r} is not served; this server has {self.info.name!r}")
        return self.info

    def check(self, request: ScoreRequest) -> None:
        """Refuses what cannot be scored before anything waits for it.

        Raises:
            UnknownModel: if the model is not served here.
            FingerprintMismatch: if the caller expects another one under its name.
            LimitExceeded: naming the limit.
        """
        served = self.find(request.model).fingerprint
        if request.expected_fingerprint not in (None, served):
            raise FingerprintMismatch(
                f"expected_fingerprint: {request.expected_fingerprint!r}, served is {served!r}"
            )
        check_limits(request.groups, self.config)


def check_limits(groups: tuple[ScoreGroup, ...], config: RewardServerConfig) -> None:
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


def get_service(request: Request) -> Service:
    """The service of the application that got the request."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]

Responses = dict[int | str, dict[str, Any]]


def _problems(*statuses: int) -> Responses:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in statuses}


router = APIRouter()


@router.post("/v1/score", responses=_problems(400, 404, 409, 413, 422, 429, 500, 503))
async def score(body: ScoreRequest, service: ServiceDep, response: Response) -> ScoreResponse:
    """Gives every candidate of every group its reward, in the order of the request."""
    started = time.perf_counter()
    service.check(body)
    scored = await service.device.score(body.groups, on_overflow=body.on_overflow)
    phases = service.metrics.observe(scored, seconds=time.perf_counter() - started)
    response.headers["server-timing"] = ", ".join(
        f"{phase};dur={1000 * seconds:.1f}" for phase, seconds in phases.items()
    )
    log.info("request.scored", groups=len(body.groups), tokens=scored.usage.tokens, **phases)
    return ScoreResponse(
        model=service.info.name,
        fingerprint=service.info.fingerprint,
        groups=scored.groups,
        usage=scored.usage,
    )


@router.get("/v1/models")
async def list_models(service: ServiceDep) -> ModelList:
    """All served models."""
    return ModelList(models=(service.info,))


@router.get("/v1/models/{name}", responses=_problems(404))
async def get_model(name: str, service: ServiceDep) -> ModelInfo:
    """One served model: fingerprint, what it is made of, and its limits."""
    return service.find(name)


@router.get("/health/live")
async def live() -> Health:
    """Answers as long as the process serves HTTP."""
    return Health(status="live")


@router.get("/health/ready", responses=_problems(503))
async def ready(service: ServiceDep) -> Health:
    """Answers 200 while scoring requests would be answered, else 503."""
    if not service.device.is_ready:
        raise DeviceFailed("the device thread is not running")
    return Health(status="ready")


@router.get("/metrics", include_in_schema=False)
async def metrics(service: ServiceDep) -> Response:
    """Counters in the Prometheus text format."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def create_app(
    config: RewardServerConfig,
    scorer: Scorer,
    *,
    on_device_failure: Callable[[BaseException], None] = lambda error: None,
) -> FastAPI:
    """The application around ``scorer``.

    Args:
        config: limits; model, host and port are not used here.
        scorer: called from the device thread only.
        on_device_failure: called once, from the device thread, if the scorer breaks.
    """
    service = Service(config, scorer, on_device_failure)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.device.start()
        yield
        await service.device.aclose()

    app = FastAPI(
        title="medpref reward server",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = service
    app.include_router(router)
    add_handlers(app)
    app.add_middleware(BufferedRequest, max_bytes=config.max_body_bytes)
    app.add_middleware(RequestId, metrics=service.metrics)  # outermost: added last
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
