"""What every HTTP request passes before the routes, as plain ASGI.

``RequestId`` gives each request a name that answer, problem document and log lines share, counts
the answer, and answers where a bug or the end of the server left none.
``Receipts`` puts the fingerprint of the model and the time by phase on every answer that scored.
``Access`` finds out who asks and whether they may.
``BufferedRequest`` reads the body up to a limit of bytes and of time, then watches the connection:
when the client leaves, its request is cancelled, so that the device does not work for nobody.
"""

from __future__ import annotations

import asyncio
import re
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_server.access import Keyring, credential, require, scope_of
from reward_server.errors import BodyTooLarge, BodyTooSlow, Draining, Forbidden, Unauthorized
from reward_server.metrics import Metrics
from reward_server.problems import problem_response, unexpected_error
from reward_server.service import Receipt

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class RequestId:
    """Takes the caller's ``x-request-id`` where it is well formed, else makes one."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)[HEADER] = request_id
                self._metrics.answered(route=route_of(scope), status=message["status"])
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except (Exception, asyncio.CancelledError) as error:
                if not has_begun:
                    response = _last_answer(Request(scope), error)
                    await response(scope, receive, send_with_id)
                raise  # for the log of whatever serves the application


def route_of(scope: Scope) -> str:
    """The path of the request's route as the application declares it, else ``unmatched``.

    What middleware refuses never reaches its route, so it is looked up.
    """
    route = scope.get("route")
    if route is None and "app" in scope:
        routes = scope["app"].router.routes
        route = next((each for each in routes if each.matches(scope)[0] is Match.FULL), None)
    return getattr(route, "path", "unmatched")


def _last_answer(request: Request, error: BaseException) -> Response:
    """What a client gets whom nothing below has answered."""
    if isinstance(error, Exception):
        return unexpected_error(request, error)
    # Not the client: whose request is cancelled when it leaves. The time to drain is over.
    return problem_response(request, Draining("the server goes down before the answer is there"))


class Receipts:
    """Adds ``x-reward-fingerprint`` and ``server-timing`` where a model was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_receipt(message: Message) -> None:
            receipt: Receipt | None = scope["state"].get("receipt")
            if message["type"] == "http.response.start" and receipt is not None:
                headers = MutableHeaders(scope=message)
                if receipt.fingerprint is not None:
                    headers["x-reward-fingerprint"] = receipt.fingerprint
                if receipt.phases:
                    headers["server-timing"] = ", ".join(
                        f"{phase};dur={1000 * seconds:.1f}"
                        for phase, seconds in receipt.phases.items()
                    )
            await send(message)

        await self._app(scope, receive, send_with_receipt)


class Access:
    """Answers 401 and 403 before a body is read; names the caller for what follows."""

    def __init__(self, app: ASGIApp, *, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needed = scope_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if needed is None:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._keyring.identify(credential(Headers(scope=scope)))
            require(caller, needed)
        except (Unauthorized, Forbidden) as error:
            await problem_response(Request(scope), error)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        await self._app(scope, receive, send)


class BufferedRequest:
    """Cancels requests whose client has left.

    Args:
        app: what answers.
        max_bytes: a longer body is refused with 413.
        max_seconds: one that is not there by then is refused with 408, and the connection closed.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._max_seconds):
                body = await self._read(receive)
        except TimeoutError:
            late = BodyTooSlow(
                f"the body is not there after {self._max_seconds:g} s; send it again"
            )
            response = problem_response(Request(scope), late)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        except BodyTooLarge as error:
            await problem_response(Request(scope), error)(scope, receive, send)
            return
        if body is not None:
            await self._run(scope, body, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; ``None`` if the client left before its end."""
        body, size = bytearray(), 0
        while (message := await receive())["type"] != "http.disconnect":
            chunk = message.get("body", b"")
            size += len(chunk)
            # What is too much is read and dropped: a client still writing would miss the answer.
            if size <= self._max_bytes:
                body += chunk
            if message.get("more_body", False):
                continue
            if size > self._max_bytes:
                raise BodyTooLarge(f"{size} bytes, limit {self._max_bytes}; send fewer groups")
            return bytes(body)
        return None

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        left = asyncio.create_task(_client_left(receive))
        unread = [body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await asyncio.shield(left)

        answer = asyncio.ensure_future(self._app(scope, replay, send))
        try:
            await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.cancel()
            left.cancel()
            await asyncio.gather(answer, left, return_exceptions=True)
        if not answer.cancelled():
            answer.result()


async def _client_left(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message
