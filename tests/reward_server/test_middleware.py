from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_server.access import Keyring
from reward_server.keyfile import Key, add_key, digest
from reward_server.metrics import Metrics
from reward_server.middleware import Access, BufferedRequest, Receipts, RequestId
from reward_server.registry import Registry
from reward_server.service import Receipt

pytestmark = pytest.mark.anyio

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
LIFESPAN: Scope = {"type": "lifespan"}


def receiving(*messages: Message) -> Receive:
    queue = list(messages)

    async def receive() -> Message:
        if not queue:
            await asyncio.Event().wait()
        return queue.pop(0)

    return receive


async def ignore(message: Message) -> None:
    """A connection whose answers nobody reads."""


def chunk(body: bytes, *, more_body: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more_body}


async def test_the_application_reads_the_whole_body_at_once() -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())

    client = receiving(chunk(b"ab", more_body=True), chunk(b"c"))
    await BufferedRequest(app, max_bytes=3, max_seconds=60)(SCOPE, client, ignore)
    assert seen == [chunk(b"abc")]


async def test_a_client_that_leaves_cancels_its_request() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    client = receiving(chunk(b""), {"type": "http.disconnect"})
    await asyncio.wait_for(
        BufferedRequest(app, max_bytes=3, max_seconds=60)(SCOPE, client, ignore), timeout=10
    )
    assert ended == ["cancelled"]


async def test_a_client_that_leaves_while_writing_is_not_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("half a request must not be answered")

    client = receiving(chunk(b"a", more_body=True), {"type": "http.disconnect"})
    await BufferedRequest(app, max_bytes=3, max_seconds=60)(SCOPE, client, ignore)


async def test_an_error_of_the_application_passes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken route")

    with pytest.raises(RuntimeError, match="broken route"):
        await BufferedRequest(app, max_bytes=3, max_seconds=60)(
            SCOPE, receiving(chunk(b"")), ignore
        )


async def test_cancelling_the_server_task_cancels_the_request() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    serving = asyncio.create_task(
        BufferedRequest(app, max_bytes=3, max_seconds=60)(SCOPE, receiving(chunk(b"")), ignore)
    )
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert ended.is_set()


async def test_what_is_too_large_is_read_to_its_end_and_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("a body that is too large must not reach the application")

    queue = [chunk(b"ab", more_body=True), chunk(b"cd", more_body=True), chunk(b"")]
    sent = Sent()
    client = receiving(*queue)
    scope = {**SCOPE, "state": {"request_id": "r-1"}}
    await BufferedRequest(app, max_bytes=3, max_seconds=60)(scope, client, sent)
    assert sent.status == 413
    assert b"4 bytes, limit 3; send fewer groups" in sent.body


async def test_a_client_that_leaves_with_its_answer_is_no_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert await receive() == {"type": "http.disconnect"}
        await send({"type": "http.response.start", "status": 200, "headers": []})

    client = receiving(chunk(b""), {"type": "http.disconnect"})
    await BufferedRequest(app, max_bytes=3, max_seconds=60)(SCOPE, client, ignore)


class Sent:
    """A connection that keeps its answer."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


def scope_of(path: str = "/", method: str = "POST", **headers: str) -> Scope:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": named}


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: RequestId(app, metrics=Metrics(Registry())),
        Receipts,
        lambda app: Access(app, keyring=Keyring.load(None)),
        lambda app: BufferedRequest(app, max_bytes=1, max_seconds=60),
    ],
)
async def test_what_is_no_request_passes_untouched(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    await wrap(app)(LIFESPAN, receiving(), ignore)
    assert seen == [{"type": "lifespan"}]


async def test_an_answer_that_has_begun_is_not_begun_again_after_a_bug() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken in the middle")

    sent = Sent()
    with pytest.raises(RuntimeError):
        await RequestId(app, metrics=Metrics(Registry()))(scope_of(), receiving(), sent)
    assert sent.status == 200


async def test_a_bug_is_answered_in_no_words_of_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("somebody's private complaint")

    sent = Sent()
    with pytest.raises(RuntimeError), structlog.testing.capture_logs() as logs:
        await RequestId(app, metrics=Metrics(Registry()))(scope_of(), receiving(), sent)
    assert sent.status == 500
    assert b"RuntimeError; see the log" in sent.body
    assert b"private" not in sent.body
    assert "private" not in str(logs)


async def test_a_request_that_is_cut_off_by_the_end_of_the_server_may_be_sent_again() -> None:
    started = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await asyncio.Event().wait()

    sent = Sent()
    named = RequestId(
        BufferedRequest(app, max_bytes=3, max_seconds=60), metrics=Metrics(Registry())
    )
    serving = asyncio.create_task(named(scope_of(), receiving(chunk(b"")), sent))
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert sent.status == 503
    assert b'"code":"draining","retryable":true' in sent.body


async def test_a_client_that_has_left_gets_no_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    sent = Sent()
    named = RequestId(
        BufferedRequest(app, max_bytes=3, max_seconds=60), metrics=Metrics(Registry())
    )
    await named(scope_of(), receiving(chunk(b""), {"type": "http.disconnect"}), sent)
    assert sent.status is None


@pytest.mark.parametrize(
    ("receipt", "expected"),
    [
        pytest.param(None, {}, id="no model was asked"),
        pytest.param(Receipt(), {}, id="no model was found"),
        pytest.param(
            Receipt(fingerprint="feed"), {"x-reward-fingerprint": "feed"}, id="nothing was scored"
        ),
        pytest.param(
            Receipt(fingerprint="feed", phases={"wait": 0.0004, "forward": 1.5}),
            {"x-reward-fingerprint": "feed", "server-timing": "wait;dur=0.4, forward;dur=1500.0"},
            id="scored",
        ),
    ],
)
async def test_an_answer_shows_its_receipt(
    receipt: Receipt | None, expected: dict[str, str]
) -> None:
    sent = Sent()
    state: dict[str, Any] = {} if receipt is None else {"receipt": receipt}
    await Receipts(answer)({**scope_of(), "state": state}, receiving(), sent)
    assert sent.headers == expected


async def test_the_caller_of_a_key_is_named_for_what_follows(tmp_path: Path) -> None:
    path, seen = tmp_path / "keys.json", list[str]()
    key = {"name": "x", "sha256": digest("secret"), "scopes": ["score"], "created": "2026-01-01"}
    add_key(path, Key.model_validate(key))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["caller"].name)

    guarded = Access(app, keyring=Keyring.load(path))
    for headers in ({"authorization": "Bearer secret"}, {"x_api_key": "secret"}):
        await guarded({**scope_of(**headers), "state": {}}, receiving(), ignore)
    assert seen == ["x", "x"]


async def test_a_request_without_a_key_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    path, sent = tmp_path / "keys.json", Sent()
    key = {"name": "x", "sha256": digest("secret"), "scopes": ["score"], "created": "2026-01-01"}
    add_key(path, Key.model_validate(key))

    async def unread() -> Message:
        raise AssertionError("nothing of it is read")

    guarded = Access(answer, keyring=Keyring.load(path))
    await guarded({**scope_of(), "state": {"request_id": "r-1"}}, unread, sent)
    assert (sent.status, sent.headers["www-authenticate"]) == (401, "Bearer")
