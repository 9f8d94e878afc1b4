"""How a peer says no: refusals of this server in the words that the peer's clients read.

Routes raise the server's own errors; a :class:`DialectRoute` puts them into the words of its wire.
A wire whose peer has no words of its own uses plain routes, which answer with problem documents.
No answer quotes what the client sent: it may be a patient's words.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from reward_server.compat.base import Answer
from reward_server.errors import (
    CandidateTooLong,
    InvalidRequest,
    RewardServerError,
    UnknownModel,
)
from reward_server.problems import PROBLEM_CONTENT, Responses

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, before it is put into a peer's words.

    Attributes:
        error: what is wrong.
        field: dotted path of the field at fault, where there is one.
        rule: pydantic's name of the rule of the schema that was broken, where one was.
    """

    error: RewardServerError
    field: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A refusal in a peer's words."""

    status: int
    body: BaseModel


class DialectRoute(APIRoute):
    """A route that refuses in a peer's words; a subclass has them."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """The refusal of a request with ``body``, as the peer writes it."""
        raise NotImplementedError

    def check(self, request: Request) -> None:
        """Refuses what its headers alone condemn."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, its errors turned into answers."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                self.check(request)
                return await answer(request)
            except (RewardServerError, RequestValidationError, HTTPException) as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                return _respond(refusal, self.words(refusal, await request.body()))

        return handle


def _respond(refusal: Refusal, written: Written) -> Response:
    log.info("request.refused", status=written.status, code=refusal.error.code)
    retry_after = refusal.error.retry_after
    return Response(
        written.body.model_dump_json(),
        written.status,
        headers={} if retry_after is None else {"retry-after": str(retry_after)},
        media_type="application/json",
    )


def refusal_of(error: Exception) -> Refusal | None:
    """What a handler raised, as a refusal; ``None`` for what is not about the request's body."""
    if isinstance(error, RewardServerError):
        return Refusal(error)
    if isinstance(error, RequestValidationError | ValidationError):
        return broken_rule(error)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.BAD_REQUEST:
        return Refusal(InvalidRequest("body: cannot be read as JSON"))
    return None


def broken_rule(error: RequestValidationError | ValidationError) -> Refusal:
    """The broken rule that lies deepest: of a choice of forms, that of the one that was meant."""
    found = max(error.errors(), key=lambda each: len(_path(each["loc"])))
    rule = found["type"]
    if rule == "json_invalid":  # its path is a position, not a field
        return Refusal(InvalidRequest("body: is not JSON"), rule=rule)
    path = ".".join(_path(found["loc"]))
    reason = found["msg"].removeprefix("Value error, ")
    if rule == "union_tag_invalid":  # its message quotes the value
        reason = f"Input should be one of {found['ctx']['expected_tags']}"
    return Refusal(InvalidRequest(f"{path or 'body'}: {reason}"), field=path or None, rule=rule)


_NOT_FIELDS = {"str", "int", "float", "bool", "none"}


def _path(location: tuple[int | str, ...]) -> list[str]:
    # pydantic names the branches of a choice in the path: tags with a dash, types with a bracket.
    start = 1 if location[:1] in (("body",), ("query",), ("path",)) else 0
    return [
        str(part)
        for part in location[start:]
        if isinstance(part, int) or (part.isidentifier() and part not in _NOT_FIELDS)
    ]


def refusals(model: Any, *statuses: int) -> Responses:
    """Declares a peer's refusals, of type ``model``, and problem documents beside them.

    What is refused before its route is known, such as a body that is too large, is a problem
    document on every path.
    """
    answer = {"model": model, "content": PROBLEM_CONTENT}
    declared: Responses = {
        status: answer | {"description": HTTPStatus(status).phrase} for status in statuses
    }
    if 422 not in declared:  # else FastAPI declares one of its own
        declared["4XX"] = answer | {"description": "Any other refusal"}
    return declared


class OpenAIErrorInfo(Answer):
    """What is wrong, as OpenAI's API and vLLM say it."""

    message: str
    type: str
    param: str | None = None
    code: int


class OpenAIError(Answer):
    """Error of vLLM and NIM."""

    error: OpenAIErrorInfo


OPENAI_REFUSALS = refusals(OpenAIError, 400, 401, 403, 404, 408, 413, 429, 500, 503, 504)


def openai_status(error: RewardServerError) -> int:
    """The status of OpenAI's servers: what is wrong with a body is always 400."""
    return 400 if error.status == 422 else error.status


def openai_info(refusal: Refusal) -> OpenAIErrorInfo:
    """The words of vLLM 0.32 (``create_error_response``, ``validation_exception_handler``)."""
    error = refusal.error
    status = openai_status(error)
    if refusal.rule:
        kind = HTTPStatus(status).phrase
    elif isinstance(error, UnknownModel):
        kind = "NotFoundError"
    else:
        kind = {400: "BadRequestError", 500: "InternalServerError"}.get(
            status, HTTPStatus(status).phrase
        )
    param = "input_tokens" if isinstance(error, CandidateTooLong) else None
    if refusal.rule:
        param = f"body.{refusal.field}" if refusal.field else "body"
    return OpenAIErrorInfo(message=str(error), type=kind, param=param, code=status)


class OpenAIRoute(DialectRoute):
    """Refuses as vLLM and NIM do."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """OpenAI's error object."""
        info = openai_info(refusal)
        return Written(info.code, OpenAIError(error=info))
