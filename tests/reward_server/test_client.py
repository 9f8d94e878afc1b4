"""Both clients against scripted servers, and the asynchronous one against the real application."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from foundation.errors import UserError
from reward_server.client import AsyncRewardClient, ClientOptions, RewardClient, StreamedGroup
from reward_server.errors import (
    CandidateTooLong,
    DeadlineExceeded,
    DeviceFailed,
    FingerprintMismatch,
    Forbidden,
    LimitExceeded,
    Overloaded,
    RewardServerError,
    RewardServerUnreachable,
    Unauthorized,
    UnknownModel,
)
from reward_server.exchange import RetryPolicy
from reward_server.protocol import GroupResult, Identity, ModelInfo, ScoreGroup, ScoreRequest
from tests.reward_server.test_exchange import group, problem, respond

if TYPE_CHECKING:
    from reward_server.config import RewardServerConfig
    from tests.reward_server.conftest import Running
    from tests.reward_server.tiny import FakeScorer

pytestmark = pytest.mark.anyio

Handler = Callable[[httpx.Request], httpx.Response]
URL = "http://server:8100"


def answer(request: httpx.Request) -> httpx.Response:
    """What a server says whose rewards are the lengths of the candidates."""
    asked = ScoreRequest.model_validate_json(request.content)
    return httpx.Response(200, content=respond(asked).model_dump_json())


def refuse(code: str, status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=problem(code, status), headers=headers)


class Server:
    """Serves one model, which can be swapped."""

    def __init__(self, fingerprint: str = "feed") -> None:
        self.fingerprint = fingerprint
        self.asked_for_model = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models/default":
            self.asked_for_model += 1
            info = ModelInfo(
                name="default", fingerprint=self.fingerprint, identity=Identity(kind="rules")
            )
            return httpx.Response(200, content=info.model_dump_json())
        asked = ScoreRequest.model_validate_json(request.content)
        if asked.expected_fingerprint not in (None, self.fingerprint):
            return refuse("fingerprint_mismatch", 409)
        response = respond(asked, fingerprint=self.fingerprint)
        return httpx.Response(200, content=response.model_dump_json())


class Scripted:
    """Gives one outcome after the other, the last for ever."""

    def __init__(self, *outcomes: Handler | httpx.Response | httpx.RequestError) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, httpx.RequestError):
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


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(httpx.ConnectError("Connection refused"), id="nobody there"),
        pytest.param(httpx.DecodingError("no gzip inside"), id="not what it says it is"),
    ],
)
def test_a_server_without_an_answer_is_one_line(score: Score, trouble: httpx.RequestError) -> None:
    server = Scripted(trouble)
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


def bodies(server: Scripted) -> list[dict[str, Any]]:
    return [json.loads(request.content) for request in server.requests]


@pytest.mark.parametrize(
    ("code", "kind"), [("unauthorized", Unauthorized), ("forbidden", Forbidden)]
)
def test_a_key_that_does_not_open_is_not_tried_again(
    score: Score, code: str, kind: type[RewardServerError]
) -> None:
    server = Scripted(refuse(code, kind.status))
    with pytest.raises(kind):
        score(server, [group()])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "status"), [("draining", 503), ("overloaded", 429), ("quota_exceeded", 429)]
)
def test_what_passes_is_waited_for_as_long_as_the_server_says(
    score: Score, code: str, status: int
) -> None:
    server = Scripted(refuse(code, status, **{"retry-after": "9"}), answer)
    assert len(score(server, [group()])) == 1
    assert server.pauses == [9.0]


def test_the_key_goes_with_every_request_and_into_no_text(score: Score) -> None:
    server = Scripted(answer)
    score(server, [group()], api_key="s3cret")
    assert server.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(ClientOptions(api_key="s3cret"))


def test_without_a_key_there_is_no_header(score: Score) -> None:
    server = Scripted(answer)
    score(server, [group()])
    assert "authorization" not in server.requests[0].headers


def test_the_lane_is_the_options(score: Score) -> None:
    server = Scripted(answer)
    score(server, [group()], lane="bulk")
    assert bodies(server)[0]["lane"] == "bulk"


def test_a_server_that_is_busy_beyond_the_deadline_is_left(score: Score) -> None:
    server = Scripted(refuse("overloaded", 429, **{"retry-after": "60"}))
    with pytest.raises(DeadlineExceeded, match="no answer within 50 s"):
        score(server, [group()], deadline_seconds=50)
    assert server.pauses == []


def test_a_request_that_is_too_big_for_the_server_comes_back_in_order(score: Score) -> None:
    def narrow(request: httpx.Request) -> httpx.Response:
        if len(json.loads(request.content)["groups"]) > 2:
            return httpx.Response(413, content=b"<html>a proxy</html>")
        return answer(request)

    results = score(Scripted(narrow), [group(str(index), "x" * index) for index in range(7)])
    assert [item.results[0].reward for item in results] == [float(index) for index in range(7)]


def test_a_pinned_model_that_is_swapped_is_an_error() -> None:
    server = Server("feed")
    options = ClientOptions(pin=True)
    with RewardClient(URL, options, transport=httpx.MockTransport(server)) as client:
        client.score([group()])
        client.score([group()])
        assert client.pinned == "feed"
        server.fingerprint = "beef"
        with pytest.raises(FingerprintMismatch):
            client.score([group()])
        with pytest.raises(FingerprintMismatch):
            next(client.score_stream([group()]))
        assert client.score([group()], expected_fingerprint="beef")
    assert server.asked_for_model == 1


async def test_a_pinned_model_that_is_swapped_is_an_error_to_the_asynchronous_client() -> None:
    server = Server("feed")
    options = ClientOptions(pin=True)
    async with AsyncRewardClient(URL, options, transport=httpx.MockTransport(server)) as client:
        await asyncio.gather(client.score([group()]), client.score([group()]))
        assert client.pinned == "feed"
        server.fingerprint = "beef"
        with pytest.raises(FingerprintMismatch):
            await client.score([group()])
        assert await client.score([group()], expected_fingerprint="beef")
    assert server.asked_for_model == 1


def test_a_named_model_is_insisted_on_without_asking(score: Score) -> None:
    server = Server("beef")
    with pytest.raises(FingerprintMismatch):
        score(Scripted(server), [group()], expected_fingerprint="feed", pin=True)
    assert server.asked_for_model == 0


Stream = Callable[..., list[StreamedGroup]]


@pytest.fixture(params=["blocking", "asynchronous"])
def stream(request: pytest.FixtureRequest) -> Stream:
    """Streams from a scripted server with one client or the other, all at once."""

    def blocking(server: Handler, groups: Iterable[ScoreGroup], **options: Any) -> Any:
        on_refused = options.pop("on_refused", "raise")
        settings = ClientOptions(**options)
        with RewardClient(URL, settings, transport=httpx.MockTransport(server)) as client:
            return list(client.score_stream(groups, on_refused=on_refused))

    def asynchronous(server: Handler, groups: Iterable[ScoreGroup], **options: Any) -> Any:
        async def run() -> list[StreamedGroup]:
            on_refused = options.pop("on_refused", "raise")
            transport = httpx.MockTransport(server)
            async with AsyncRewardClient(URL, ClientOptions(**options), transport=transport) as it:
                return [item async for item in it.score_stream(groups, on_refused=on_refused)]

        return asyncio.run(run())

    return blocking if request.param == "blocking" else asynchronous


def many(count: int) -> Iterator[ScoreGroup]:
    for index in range(count):
        yield group(str(index), "x" * (index % 50))


def test_a_stream_gives_every_group_once_in_order(stream: Stream) -> None:
    items = stream(Scripted(answer), many(200), groups_per_request=7)
    assert [item.index for item in items] == list(range(200))
    assert [item.result.id for item in items] == [str(index) for index in range(200)]
    assert {item.fingerprint for item in items} == {"feed"}


def test_a_stream_of_nothing_is_empty(stream: Stream) -> None:
    server = Scripted(answer)
    assert stream(server, []) == []
    assert server.requests == []


def too_long_for(*bad: str) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        asked = ScoreRequest.model_validate_json(request.content)
        if {one.id for one in asked.groups} & set(bad):
            return refuse("candidate_too_long", 422)
        return answer(request)

    return handle


def test_a_refused_group_ends_a_stream(stream: Stream) -> None:
    with pytest.raises(CandidateTooLong):
        stream(too_long_for("17"), many(50))


def test_a_stream_can_keep_refusals_in_place(stream: Stream) -> None:
    items = stream(too_long_for("17", "33"), many(50), on_refused="keep", groups_per_request=8)
    kept = [item.index for item in items if isinstance(item.outcome, CandidateTooLong)]
    assert kept == [17, 33]
    assert [item.index for item in items] == list(range(50))


def test_a_model_that_changes_midway_ends_a_stream(stream: Stream) -> None:
    server = Server("feed")

    def swap(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["groups"][0]["id"] == "20":
            server.fingerprint = "beef"
        return server(request)

    with pytest.raises(FingerprintMismatch, match=r"changed during the job \(beef, feed\)"):
        stream(swap, many(60), groups_per_request=10, concurrency=1)


def test_what_goes_wrong_with_the_input_ends_a_stream(stream: Stream) -> None:
    def broken() -> Iterator[ScoreGroup]:
        yield from many(30)
        raise UserError("line 31: malformed")

    with pytest.raises(UserError, match="line 31"):
        stream(Scripted(answer), broken(), groups_per_request=2)


def test_a_stream_reads_only_so_far_ahead() -> None:
    read = 0

    def endless() -> Iterator[ScoreGroup]:
        nonlocal read
        for read in itertools.count(1):
            yield group(str(read))

    options = ClientOptions(groups_per_request=3, concurrency=2)
    with RewardClient(URL, options, transport=httpx.MockTransport(Scripted(answer))) as client:
        with closing(client.score_stream(endless())) as items:
            assert [next(items).index for _ in range(4)] == [0, 1, 2, 3]
        assert read <= 3 * (2 * 2 + 1)


def threads() -> int:
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


def test_a_blocking_stream_that_is_left_early_leaves_no_thread() -> None:
    before = threads()
    with RewardClient(URL, transport=httpx.MockTransport(Scripted(answer))) as client:
        for _ in client.score_stream(many(10_000)):
            break
    assert threads() == before


def test_a_failure_ends_the_pauses_of_the_other_requests() -> None:
    is_busy = threading.Event()
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        name = json.loads(request.content)["groups"][0]["id"]
        asked.append(name)
        if name == "waits":
            is_busy.set()
            return refuse("overloaded", 429, **{"retry-after": "3600"})
        assert is_busy.wait(timeout=10)
        return refuse("unknown_model", 404)

    retry = RetryPolicy(budget_seconds=7200)
    options = ClientOptions(groups_per_request=1, retry=retry)
    with (
        RewardClient(URL, options, transport=httpx.MockTransport(handle)) as client,
        pytest.raises(UnknownModel),  # and not after an hour
    ):
        client.score([group("waits"), group("fails")])
    assert sorted(asked) == ["fails", "waits"]


async def test_an_asynchronous_stream_that_is_left_early_leaves_no_task() -> None:
    under_way = 0

    async def count(request: httpx.Request) -> httpx.Response:
        nonlocal under_way
        under_way += 1
        try:
            if b'"id":"0"' not in request.content:
                await asyncio.Event().wait()
            return answer(request)
        finally:
            under_way -= 1

    options = ClientOptions(groups_per_request=1)
    before = asyncio.all_tasks()
    async with AsyncRewardClient(URL, options, transport=httpx.MockTransport(count)) as client:
        async with aclosing(client.score_stream(many(100))) as items:
            assert (await anext(items)).index == 0
            await asyncio.sleep(0)
            assert under_way > 0
        assert under_way == 0
        assert asyncio.all_tasks() == before


async def test_the_first_failure_stops_the_rest_of_a_stream() -> None:
    stopped: list[str] = []

    async def fail_or_wait(request: httpx.Request) -> httpx.Response:
        name = json.loads(request.content)["groups"][0]["id"]
        if name == "3":
            return refuse("unknown_model", 404)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(name)
        raise AssertionError

    options = ClientOptions(groups_per_request=1, concurrency=4)
    transport = httpx.MockTransport(fail_or_wait)
    async with AsyncRewardClient(URL, options, transport=transport) as client:
        with pytest.raises(UnknownModel):
            await anext(client.score_stream(many(100)))
    assert {"0", "1", "2"} <= set(stopped)


async def test_a_cancelled_call_takes_its_requests_along() -> None:
    began = asyncio.Event()
    stopped: list[str] = []

    async def wait(request: httpx.Request) -> httpx.Response:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("q1")
        raise AssertionError

    async with AsyncRewardClient(URL, transport=httpx.MockTransport(wait)) as client:
        call = asyncio.create_task(client.score([group()]))
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert stopped == ["q1"]


async def test_the_client_understands_the_application(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    from reward_server.app import create_app

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
    from reward_server.app import create_app

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
    from reward_server.app import create_app

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
