"""A judge that is asked in words: answers, refusals, patience."""

from __future__ import annotations

import json

import httpx
import pytest

from benchmarks.chat import ChatClient, ChatFailed
from benchmarks.errors import BenchmarkError
from corpora.conversation import Conversation
from reward_server.client import RetryPolicy
from tests.policy.tiny import RunningPolicy

ASK = Conversation.ask("Is it?")


def answer(text: str | None, finish_reason: str = "stop") -> httpx.Response:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": finish_reason}
    return httpx.Response(200, json={"choices": [choice]})


def client(*outcomes: httpx.Response | Exception, slept: list[float] | None = None) -> ChatClient:
    left = list(outcomes)

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://judge/v1/chat/completions"
        assert json.loads(request.content)["messages"] == [{"role": "user", "content": "Is it?"}]
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def sleep(seconds: float) -> None:
        (slept if slept is not None else []).append(seconds)

    return ChatClient(
        "http://judge/v1/",
        "m",
        retry=RetryPolicy(attempts=3),
        transport=httpx.MockTransport(handle),
        sleep=sleep,
    )


async def test_a_busy_endpoint_is_asked_again_after_the_time_it_wants() -> None:
    slept: list[float] = []
    busy = httpx.Response(429, headers={"retry-after": "7"})
    async with client(busy, httpx.ConnectError("no"), answer("Yes."), slept=slept) as judge:
        assert await judge.ask(ASK, max_tokens=8) == "Yes."
    assert slept == [7.0, 0.5]


async def test_a_broken_endpoint_is_asked_again() -> None:
    async with client(httpx.Response(500), answer("Yes.")) as judge:
        assert await judge.ask(ASK, max_tokens=8) == "Yes."


@pytest.mark.parametrize(
    ("outcomes", "words", "is_refusal"),
    [
        pytest.param([httpx.Response(400)], "answered 400", True, id="refused"),
        pytest.param([httpx.Response(404)], "answered 404", False, id="no such model"),
        pytest.param([httpx.Response(500)] * 3, "answered http_500", False, id="broken"),
        pytest.param([httpx.ConnectError("no")] * 3, r"no answer from .* \(no\)", False, id="gone"),
        pytest.param([httpx.ReadTimeout("slow")], r"no answer from .* \(slow\)", False, id="slow"),
        pytest.param([answer("Verdict: tr", "length")], "cut at max_tokens 8", True, id="cut"),
        pytest.param([httpx.Response(200, json={})], "no chat completion", False, id="other"),
    ],
)
async def test_no_answer_is_an_error(
    outcomes: list[httpx.Response | Exception], words: str, is_refusal: bool
) -> None:
    async with client(*outcomes) as judge:
        with pytest.raises(ChatFailed, match=words) as caught:
            await judge.ask(ASK, max_tokens=8)
    assert caught.value.is_refusal is is_refusal


@pytest.mark.parametrize("url", ["localhost", "http://[::1"])
def test_what_is_no_endpoint_is_one_line(url: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        ChatClient(url, "m")
    assert str(caught.value) == f"judge: {url!r} is no endpoint; write it as http://host:port/v1"


@pytest.mark.integration
async def test_it_is_answered_by_vllm(policy_server: RunningPolicy) -> None:
    url = f"{policy_server.url}/v1"
    async with ChatClient(url, "base") as judge, ChatClient(url, "nobody") as missing:
        with pytest.raises(ChatFailed, match="cut at max_tokens 1"):
            await judge.ask(ASK, max_tokens=1)
        with pytest.raises(ChatFailed, match="answered 404"):
            await missing.ask(ASK, max_tokens=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
