"""The native routes: scoring, models, health, metrics and administration.

Thin: a route checks nothing and catches nothing. What is raised below becomes a problem document.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from reward_server.dependencies import ScoringDep
from reward_server.errors import DeviceFailed, Draining, Forbidden
from reward_server.problems import Responses, problems
from reward_server.protocol import (
    AliasTarget,
    Health,
    ModelInfo,
    ModelList,
    ScoreRequest,
    ScoreResponse,
)
from reward_server.specs import JudgeSpec, ModelSpec, TransformerSpec
from reward_server.state import ServerState


def get_state(request: Request) -> ServerState:
    """What the application serves."""
    state: ServerState = request.app.state.server
    return state


StateDep = Annotated[ServerState, Depends(get_state)]
Name = Annotated[str, Path(min_length=1)]

router = APIRouter()


def scoring_router(route_class: type[APIRoute], *, more: Responses) -> APIRouter:
    """The route that scores.

    Args:
        route_class: may answer foreign bodies that come the same way.
        more: what it may answer those.
    """
    own = problems(400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 504)
    scoring = APIRouter(route_class=route_class)

    @scoring.post("/v1/score", responses=merged(own, more))
    async def score(body: ScoreRequest, scoring: ScoringDep) -> ScoreResponse:
        """Gives every candidate of every group its reward, in the order of the request."""
        return await scoring.score(body)

    return scoring


def merged(own: Responses, more: Responses) -> Responses:
    """Both sets of answers; a status in both may have either body."""
    result = {status: dict(answer) for status, answer in own.items()}
    for status, answer in more.items():
        known = result.setdefault(status, {})
        known["content"] = {**known.get("content", {}), **answer["content"]}
    return result


@router.get("/v1/models", responses=problems(401, 403))
async def list_models(scoring: ScoringDep) -> ModelList:
    """All served models."""
    return ModelList.of(scoring.models())


@router.get("/v1/models/{name:path}", responses=problems(401, 403, 404, 422))
async def get_model(name: Name, scoring: ScoringDep) -> ModelInfo:
    """One served model: fingerprint, what it is made of, and its limits."""
    return scoring.find(name)


@router.get("/health/live")
async def live() -> Health:
    """Answers as long as the process serves HTTP."""
    return Health(status="live")


@router.get("/health/ready", responses=problems(503))
async def ready(state: StateDep) -> Health:
    """Answers 200 while scoring requests would be answered, else 503."""
    if state.is_draining:
        raise Draining("the server is going down")
    if not state.registry.is_ready:
        raise DeviceFailed("a model does not score; see the log")
    return Health(status="ready")


@router.get("/metrics", include_in_schema=False)
async def metrics(state: StateDep) -> Response:
    """Counters in the Prometheus text format."""
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


admin = APIRouter(prefix="/v1/admin", tags=["admin"])


@admin.put(
    "/models/{name:path}", responses=problems(400, 401, 403, 404, 408, 409, 413, 422, 500, 503)
)
async def serve_model(name: Name, body: ModelSpec, state: StateDep) -> ModelInfo:
    """Serves a model under a name; one that is there is replaced without a failed request."""
    if (
        isinstance(body, TransformerSpec)
        and body.trust_remote_code
        and not state.config.trust_remote_code
    ):
        raise Forbidden("trust_remote_code: only for a server that was started with it")
    if (
        isinstance(body, JudgeSpec)
        and not state.keyring.has_keys
        and (body.api_key_env is not None or body.rubric is not None)
    ):
        # Whoever reaches the port could have the server read its secrets out to an address.
        raise Forbidden("api_key_env, rubric: over HTTP only on a server with keys")
    return await state.swapper.serve(name, body)


@admin.delete("/models/{name:path}", status_code=204, responses=problems(401, 403, 404, 409, 422))
async def remove_model(name: Name, state: StateDep) -> None:
    """Takes a model out of service when its requests have ended."""
    state.registry.remove(name)


@admin.put("/aliases/{alias:path}", responses=problems(400, 401, 403, 404, 408, 409, 413, 422))
async def set_alias(alias: Name, body: AliasTarget, state: StateDep) -> ModelInfo:
    """Points a name at a model, at once for all requests that follow."""
    state.registry.set_aliases({alias: body.model})
    return state.registry.info(state.registry.find(alias))


@admin.delete("/aliases/{alias:path}", status_code=204, responses=problems(401, 403, 404, 422))
async def remove_alias(alias: Name, state: StateDep) -> None:
    """Forgets a name; its model stays."""
    state.registry.remove_alias(alias)
