"""Both clients against scripted servers, and the asynchronous one against the real application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from reward_server.app import create_app
from reward_server.client import AsyncRewardClient, ClientOptions, RewardClient
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    DeviceFailed,
    FingerprintMismatch,
    LimitExceeded,
    Overloaded,
    RewardServerError,
    RewardServerUnreachable,
    UnknownModel,
)
from reward_server.exchange import RetryPolicy
from reward_server.protocol import GroupResult, ScoreGroup, ScoreRequest, ScoreResponse
from tests.reward_server.conftest import Running
from tests.reward_server.test_exchange import problem
from tests.reward_server.tiny import FakeScorer, group

pytestmark = pytest.mark.anyio

Handler = Callable[[httpx.Request], httpx.Response]
URL = "http://server:8100"


def answer(request: httpx.Request) -> httpx.Response:
    """What a real server with the fake scorer says."""
    asked = ScoreRequest.model_validate_json(request.content)
    scored = FakeScorer().score(asked.groups, on_overflow=asked.on_overflow)
    response = ScoreResponse(
        model=asked.model, fingerprint="feed", groups=scored.groups, usage=scored.usage
    )
    return httpx.Response(200, content=response.model_dump_json())


class Scripted:
    """Gives one outcome after the other, the last for ever."""

    def __init__(self, *outcomes: Handler | httpx.Response | httpx.TransportError) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, httpx.TransportError):
            raise outcome
        return outcome(request) if callable(outcome) else outcome

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


Score = Callable[..., list[GroupResult]]


@pytest.fixture(params=["blocking", "asynchronous"])
def score(request: pytest.FixtureRequest) -> Score:
    """Scores against a scripted server with one client or the other."""

    def blocking(server: Scripted, groups: Sequence[ScoreGroup], **options: Any) -> Any:
        transport = httpx.MockTransport(server)
        settings = ClientOptions(**options)
        with RewardClient(URL, settings, transport=transport, sleep=server.pauses.append) as client:
            return client.score(groups)

    def asynchronous(server: Scripted, groups: Sequence[ScoreGroup], **options: Any) -> Any:
        async def run() -> list[GroupResult]:
            transport = httpx.MockTransport(server)
            settings = ClientOptions(**options)
            async with AsyncRewardClient(
                URL, settings, transport=transport, sleep=server.pause
            ) as client:
                return await client.score(groups)

        return asyncio.run(run())

    return blocking if request.param == "blocking" else asynchronous


def test_a_large_job_is_split_and_comes_back_in_order(score: Score) -> None:
    server = Scripted(answer)
    groups = [group(str(index), "x" * index) for index in range(10)]
    results = score(server, groups, groups_per_request=3)
    assert [item.id for item in results] == [str(index) for index in range(10)]
    assert [item.results[0].reward for item in results] == [float(i) for i in range(10)]
    assert len(server.requests) == 4


def test_nothing_to_score_asks_nobody(score: Score) -> None:
    server = Scripted(answer)
    assert score(server, []) == []
    assert server.requests == []


def test_a_busy_server_is_asked_again_when_it_said(score: Score) -> None:
    busy = httpx.Response(429, content=problem("overloaded", 429), headers={"retry-after": "7"})
    server = Scripted(busy, httpx.ConnectError("restarting"), answer)
    assert len(score(server, [group()])) == 1
    assert server.pauses == [7.0, 0.5]


def test_a_server_that_stays_busy_is_given_up(score: Score) -> None:
    server = Scripted(httpx.Response(429, content=problem("overloaded", 429)))
    with pytest.raises(Overloaded):
        score(server, [group()], retry=RetryPolicy(attempts=3))
    assert len(server.requests) == 3


def test_a_wait_beyond_the_budget_is_not_begun(score: Score) -> None:
    busy = httpx.Response(429, content=problem("overloaded", 429), headers={"retry-after": "60"})
    server = Scripted(busy)
    with pytest.raises(Overloaded):
        score(server, [group()], retry=RetryPolicy(budget_seconds=100))
    assert server.pauses == [60.0]


def test_a_refusal_is_not_repeated(score: Score) -> None:
    server = Scripted(httpx.Response(422, content=problem("limit_exceeded", 422)))
    with pytest.raises(LimitExceeded, match="what happened"):
        score(server, [group()])
    assert len(server.requests) == 1


def test_a_missing_server_is_one_line(score: Score) -> None:
    server = Scripted(httpx.ConnectError("Connection refused"))
    with pytest.raises(RewardServerUnreachable, match="no answer from http://server:8100"):
        score(server, [group()], retry=RetryPolicy(attempts=1))


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(lambda request: httpx.Response(200, content=b"OK"), id="no JSON"),
        pytest.param(lambda request: answer_to_another(), id="other groups"),
    ],
)
def test_an_answer_to_something_else_is_an_error(score: Score, strange: Handler) -> None:
    with pytest.raises(RewardServerError):
        score(Scripted(strange), [group("mine")])


def answer_to_another() -> httpx.Response:
    request = ScoreRequest(groups=(group("theirs"),))
    return answer(httpx.Request("POST", URL, content=request.model_dump_json().encode()))


def test_a_model_that_changes_midway_fails_the_job(score: Score) -> None:
    def other(request: httpx.Request) -> httpx.Response:
        content = answer(request).content.replace(b"feed", b"beef")
        return httpx.Response(200, content=content)

    with pytest.raises(FingerprintMismatch):
        score(Scripted(answer, other), [group("a"), group("b")], groups_per_request=1)


@pytest.mark.parametrize("url", ["server:8100", "ftp://server", "http://", "http://server:port"])
def test_what_is_no_url_is_said_at_once(url: str) -> None:
    with pytest.raises(RewardServerUnreachable, match=r"write it as http://host:port$"):
        RewardClient(url)


def test_the_blocking_client_keeps_its_concurrency() -> None:
    together = threading.Barrier(2)

    def meet(request: httpx.Request) -> httpx.Response:
        together.wait(timeout=10)  # passes only when exactly two requests are under way
        return answer(request)

    options = ClientOptions(groups_per_request=1, concurrency=2)
    with RewardClient(URL, options, transport=httpx.MockTransport(meet)) as client:
        assert len(client.score([group(name) for name in "abcd"])) == 4


async def test_the_asynchronous_client_keeps_its_concurrency() -> None:
    under_way, most = 0, 0

    async def count(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return answer(request)

    options = ClientOptions(groups_per_request=1, concurrency=3)
    transport = httpx.MockTransport(count)
    async with AsyncRewardClient(URL, options, transport=transport) as client:
        await client.score([group(str(index)) for index in range(12)])
    assert most == 3


async def test_the_first_failure_stops_the_rest_of_the_job() -> None:
    stopped: list[str] = []

    async def fail_or_wait(request: httpx.Request) -> httpx.Response:
        if b'"id":"a"' in request.content:
            return httpx.Response(404, content=problem("unknown_model", 404))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("b")
            raise
        raise AssertionError

    options = ClientOptions(groups_per_request=1)
    transport = httpx.MockTransport(fail_or_wait)
    async with AsyncRewardClient(URL, options, transport=transport) as client:
        with pytest.raises(UnknownModel):
            await client.score([group("b"), group("a")])
    assert stopped == ["b"]


async def test_the_client_understands_the_application(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    async with (
        running(create_app(config, scorer)) as transport,
        AsyncRewardClient("http://test/", transport=transport) as client,
    ):
        assert await client.ready()
        assert await client.model() == scorer.info
        (result,) = await client.score(
            [group("q1", "Rest.")], expected_fingerprint=scorer.info.fingerprint
        )
        assert result.results[0].reward == 5.0
        with pytest.raises(FingerprintMismatch):
            await client.score([group()], expected_fingerprint="feed")
        with pytest.raises(LimitExceeded):
            await client.score([group("q1", *"abcd")])


async def test_the_client_sees_an_unknown_model(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    options = ClientOptions(model="other")
    async with (
        running(create_app(config, scorer)) as transport,
        AsyncRewardClient("http://test", options, transport=transport) as client,
    ):
        with pytest.raises(UnknownModel):
            await client.model()
        with pytest.raises(UnknownModel):
            await client.score([group()])


async def test_the_client_sees_a_dead_device(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    scorer.error = RuntimeError("the device is gone")
    options = ClientOptions(retry=RetryPolicy(attempts=1))
    async with (
        running(create_app(config, scorer)) as transport,
        AsyncRewardClient("http://test", options, transport=transport) as client,
    ):
        with pytest.raises(DeviceFailed):
            await client.score([group()])
        assert not await client.ready()


def test_a_server_that_is_not_there_is_not_ready() -> None:
    transport = httpx.MockTransport(Scripted(httpx.ConnectError("Connection refused")))
    with RewardClient(URL, transport=transport) as client:
        assert not client.ready()
