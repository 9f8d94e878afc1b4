from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from reward_server.middleware import BufferedRequest

pytestmark = pytest.mark.anyio

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}


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
    await BufferedRequest(app, max_bytes=3)(SCOPE, client, ignore)
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
    await asyncio.wait_for(BufferedRequest(app, max_bytes=3)(SCOPE, client, ignore), timeout=10)
    assert ended == ["cancelled"]


async def test_a_client_that_leaves_while_writing_is_not_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("half a request must not be answered")

    client = receiving(chunk(b"a", more_body=True), {"type": "http.disconnect"})
    await BufferedRequest(app, max_bytes=3)(SCOPE, client, ignore)


async def test_an_error_of_the_application_passes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken route")

    with pytest.raises(RuntimeError, match="broken route"):
        await BufferedRequest(app, max_bytes=3)(SCOPE, receiving(chunk(b"")), ignore)


async def test_cancelling_the_server_task_cancels_the_request() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    serving = asyncio.create_task(
        BufferedRequest(app, max_bytes=3)(SCOPE, receiving(chunk(b"")), ignore)
    )
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert ended.is_set()
