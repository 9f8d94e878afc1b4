"""What every HTTP request passes before the routes, as plain ASGI.

``RequestId`` gives each request a name that answer, problem document and log lines share, and
counts the answer.
``BufferedRequest`` reads the body up to a limit, then watches the connection: when the client
leaves, its request is cancelled, so that the device does not work for nobody.
"""

from __future__ import annotations

import asyncio
import re
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_server.errors import BodyTooLarge
from reward_server.metrics import Metrics
from reward_server.problems import problem_response

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

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                route = getattr(scope.get("route"), "path", "unmatched")
                self._metrics.answered(route=route, status=message["status"])
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


class BufferedRequest:
    """Refuses a body above ``max_bytes`` with 413 and cancels requests whose client has left."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(receive)
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
