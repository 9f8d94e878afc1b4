"""Errors as answers: the one place where exceptions become RFC 9457 problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from reward_server.errors import InvalidRequest, RewardServerError
from reward_server.protocol import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as ``responses``."""

PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
"""A problem document in an OpenAPI description."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def add_handlers(app: FastAPI) -> None:
    """Makes every error of ``app`` answer with a problem document.

    A bug is answered for by ``middleware.RequestId``: Starlette would call its handler outside of
    all middleware, where the answer has neither name nor count.
    """
    app.add_exception_handler(RewardServerError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def problems(*statuses: int) -> Responses:
    """The problem documents that a route may answer with, for its OpenAPI description."""
    return {status: {"model": Problem, "content": PROBLEM_CONTENT} for status in statuses}


def problem_response(
    request: Request, error: RewardServerError, *, errors: tuple[FieldProblem, ...] = ()
) -> Response:
    """The answer to ``error``, with ``retry-after`` where the error knows it."""
    problem = Problem(
        type=f"urn:medpref:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=str(error),
        code=error.code,
        retryable=error.retryable,
        request_id=request.scope["state"]["request_id"],
        errors=errors,
    )
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return _respond(problem, headers)


def _respond(problem: Problem, headers: dict[str, str]) -> Response:
    log.info("request.refused", status=problem.status, code=problem.code)
    return Response(
        problem.model_dump_json(), problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def _domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RewardServerError)
    return problem_response(request, error)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Only place and reason: the value may be a patient's words.
    places = [found["loc"] for found in error.errors()]
    errors = tuple(
        FieldProblem(field=_field(found["loc"]), detail=_reason(found))
        for found in error.errors()
        if not any(_is_inside(place, found["loc"]) for place in places)
    )
    detail = f"{errors[0].field}: {errors[0].detail}"
    return problem_response(request, InvalidRequest(detail), errors=errors)


def _is_inside(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    # pydantic counts the sound parts of a list only: a bad group also makes the list too short.
    return len(place) > len(other) and place[: len(other)] == other


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    problem = Problem(
        type="about:blank",
        title=title,
        status=error.status_code,
        detail=f"{request.method} {request.url.path}: {error.detail}",
        code=title.lower().replace(" ", "_"),
        retryable=False,
        request_id=request.scope["state"]["request_id"],
    )
    return _respond(problem, dict(error.headers or {}))


def unexpected_error(request: Request, error: Exception) -> Response:
    """The answer to a bug: its kind and nothing of its words, which may be those of the request."""
    return problem_response(request, RewardServerError(f"{type(error).__name__}; see the log"))


def _reason(found: dict[str, Any]) -> str:
    if found["type"] == "union_tag_invalid":  # its message quotes the value
        return f"Input should be one of {found['ctx']['expected_tags']}"
    message: str = found["msg"]
    return message.removeprefix("Value error, ")


def _field(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    return path.removeprefix(".") or "body"
