"""The application: the parts of a server put together around its models.

Nothing here blocks the event loop while it runs: rendering has its threads, the device has one.
Knows nothing of torch or sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute

from reward_server.access import ANONYMOUS, Keyring, Quotas
from reward_server.audit import AuditLog
from reward_server.cache import RewardCache
from reward_server.compat import ROUTERS
from reward_server.compat.vllm import SHARED_ANSWERS, SharedScoreRoute
from reward_server.config import RewardServerConfig
from reward_server.loading import Resources
from reward_server.metrics import Metrics
from reward_server.middleware import Access, BufferedRequest, Receipts, RequestId, route_of
from reward_server.problems import add_handlers
from reward_server.registry import Registry
from reward_server.routes import admin, router, scoring_router
from reward_server.scorer import Scorer
from reward_server.service import BoundService, Service
from reward_server.state import ServerState
from reward_server.swap import Swapper


def create_app(
    config: RewardServerConfig,
    scorer: Scorer | None = None,
    *,
    keyring: Keyring | None = None,
    on_device_failure: Callable[[BaseException], None] = lambda error: None,
) -> FastAPI:
    """The application for ``config``; loads its models, so it takes a while.

    Args:
        config: models and limits; host and port are not used here.
        scorer: takes the place of the configured model of its name.
        keyring: who may ask; left out, the configured key file is read.
        on_device_failure: called once, from a batcher's thread, if a model's engine breaks.

    Raises:
        ServerStartError: one line naming the setting, its value and the fix.
    """
    state = _assemble(config, keyring or Keyring.load(config.keys), on_device_failure)
    loaded = state.swapper.load({} if scorer is None else {scorer.info.name: scorer})
    audit = state.service.audit
    if audit is not None:
        audit.start()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.swapper.start(loaded)
        yield
        state.is_draining = True
        await state.registry.aclose()
        state.swapper.close()
        if audit is not None:
            await audit.aclose()

    app = FastAPI(
        title="medpref reward server",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.server = state
    app.state.scoring_for = _scoring_for(state)
    app.state.is_ready = lambda: state.registry.is_ready and not state.is_draining
    _include_routes(app, has_wires=config.wires)
    add_handlers(app)
    _add_middleware(app, state)
    return app


def _include_routes(app: FastAPI, *, has_wires: bool) -> None:
    app.include_router(
        scoring_router(SharedScoreRoute, more=SHARED_ANSWERS)
        if has_wires
        else scoring_router(APIRoute, more={})
    )
    for each in (router, admin, *(ROUTERS if has_wires else ())):
        app.include_router(each)


def _add_middleware(app: FastAPI, state: ServerState) -> None:
    config = state.config
    # The last one added is the outermost.
    app.add_middleware(
        BufferedRequest, max_bytes=config.max_body_bytes, max_seconds=config.max_body_seconds
    )
    app.add_middleware(Access, keyring=state.keyring)
    app.add_middleware(Receipts)
    app.add_middleware(RequestId, metrics=state.metrics)


def _assemble(
    config: RewardServerConfig,
    keyring: Keyring,
    on_device_failure: Callable[[BaseException], None],
) -> ServerState:
    registry = Registry()
    metrics = Metrics(registry)
    cache = RewardCache(config.cache_entries)
    metrics.gauge("cache_entries", "Rewards kept by content.", lambda: len(cache))
    audit = _audit(config)
    if audit is not None:
        metrics.gauge("audit_lost", "Requests that the audit log misses.", lambda: audit.lost)
    resources = Resources(
        cache=cache,
        max_pending_tokens=config.max_pending_tokens,
        bulk_patience_seconds=config.bulk_patience_seconds,
        on_failure=on_device_failure,
    )
    return ServerState(
        config=config,
        keyring=keyring,
        registry=registry,
        metrics=metrics,
        swapper=Swapper(registry, resources, config, on_canary=metrics.canary),
        service=Service(config, registry, metrics, Quotas(), audit),
    )


def _audit(config: RewardServerConfig) -> AuditLog | None:
    if config.audit is None:
        return None
    return AuditLog(
        config.audit,
        include_text=config.audit_text,
        required=config.audit_required,
        sampling=config.audit_sampling,
    )


def _scoring_for(state: ServerState) -> Callable[[Request], BoundService]:
    def scoring_for(request: Request) -> BoundService:
        known = request.scope["state"]
        bound = BoundService(
            state.service,
            known.get("caller", ANONYMOUS),
            request_id=known["request_id"],
            route=route_of(request.scope),
        )
        known["receipt"] = bound.receipt
        return bound

    return scoring_for


def _operation_id(route: APIRoute) -> str:
    return route.name
