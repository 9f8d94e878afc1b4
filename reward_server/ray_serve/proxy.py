"""What stands between Serve's proxy and the application, on either side of it.

Before the proxy :class:`Front` answers what no replica did; in the replica :class:`Named` and
:class:`WithoutAdmin` go around the application.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_server.access import ADMIN
from reward_server.errors import RewardServerError
from reward_server.problems import problem_response

REPLICA_HEADER = "x-replica"
REQUEST_ID_HEADER = "x-request-id"


class AdminIsPerProcess(RewardServerError):
    """An administrative request would change one replica of several."""

    status, code, title = 409, "admin_is_per_process", "The replicas are administered together"


class NoReplicaAnswered(RewardServerError):
    """The replica died with the request, or none is there yet."""

    status, code, title, retryable = 503, "no_replica_answered", "No replica answered", True


class Named:
    """Puts the name of the replica on its answers."""

    def __init__(self, app: ASGIApp, *, replica: str) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REPLICA_HEADER] = self._replica
            await send(message)

        await self._app(scope, receive, send_with_name)


class WithoutAdmin:
    """Answers 409 where one process would be administered and the others not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{ADMIN}/"):
            await self._app(scope, receive, send)
            return
        error = AdminIsPerProcess(
            f"{scope['path']}: would change one replica only; change the settings and deploy again"
        )
        await problem_response(Request(scope), error)(scope, receive, send)


class Front:
    """Stands before Serve's proxy and answers what no replica did.

    Serve says 500 for a request whose replica died, which clients must not repeat blindly, and 404
    while no application is there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):  # Serve's own routes
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_replicas(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_answered = REPLICA_HEADER in headers
                # The proxy adds the name that it knows to the one that the application gave.
                for request_id in headers.getlist(REQUEST_ID_HEADER)[:1]:
                    headers[REQUEST_ID_HEADER] = request_id
            if is_answered:
                await send(message)

        await self._app(scope, receive, send_replicas)
        if not is_answered:
            await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = Headers(scope=scope).get(REQUEST_ID_HEADER, "unnamed")
    scope.setdefault("state", {})["request_id"] = request_id
    error = NoReplicaAnswered("it died meanwhile or is not there yet; send the request again")
    response = problem_response(Request(scope), error)
    response.headers[REQUEST_ID_HEADER] = request_id
    await response(scope, receive, send)


def front() -> list[Middleware]:
    """What Serve's proxies call for middleware of ours."""
    return [Middleware(Front)]
