"""A foreign server that is scripted: retries, refusals, the end of a job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from benchmarks.endpoints.base import Rewards
from benchmarks.endpoints.foreign import ForeignEndpoint
from benchmarks.endpoints.wires import WIRES, WireName
from benchmarks.endpoints.wires.asking import Asking
from benchmarks.errors import BenchmarkError, EvaluationFailed
from corpora.conversation import Conversation
from reward_server.client import ClientOptions, RetryPolicy
from reward_server.protocol import ScoreGroup

pytestmark = pytest.mark.anyio

URL = "http://server:8100"


class Server:
    """Answers TEI's ``/rerank`` and vLLM's ``/classify`` with lengths, after some outcomes."""

    def __init__(self, *outcomes: httpx.Response | httpx.RequestError) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.headers: dict[str, str] = {}
        self.answers_left = 10**6

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, httpx.RequestError):
                raise outcome
            return outcome
        if self.answers_left == 0:
            raise httpx.ConnectError("refused")
        self.answers_left -= 1
        body = json.loads(request.content)
        texts = body["texts"] if "texts" in body else [body["messages"][-1]["content"]]
        if any("long" in text for text in texts):
            return httpx.Response(
                422, json={"error": "too many\ntokens", "error_type": "Tokenizer"}
            )
        return httpx.Response(200, content=self.answer(body), headers=self.headers)

    @staticmethod
    def answer(body: dict[str, Any]) -> bytes:
        if "texts" not in body:
            length = len(body["messages"][-1]["content"])
            return json.dumps({"data": [{"probs": [length]}]}).encode()
        ranks = [
            {"index": index, "score": float("nan") if text == "nan" else len(text)}
            for index, text in enumerate(body["texts"])
        ]
        return json.dumps(ranks[::-1]).encode()

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def endpoint(self, name: WireName = "tei-rerank", **options: Any) -> ForeignEndpoint:
        settings = ClientOptions(**({"retry": RetryPolicy(attempts=4)} | options))
        transport = httpx.MockTransport(self)
        return ForeignEndpoint(
            URL, Asking(WIRES[name]), settings, transport=transport, sleep=self.pause
        )


def group(*candidates: str) -> ScoreGroup:
    return ScoreGroup.of("q", Conversation.ask("Why?"), candidates)


async def scored(endpoint: ForeignEndpoint, *groups: ScoreGroup) -> list[Rewards]:
    async with aclosing(endpoint.score(groups)) as stream:
        return [rewards async for rewards in stream]


async def test_ranks_are_put_back_into_the_order_of_the_candidates() -> None:
    found = await scored(Server().endpoint(), group("a", "abc", "ab"), group("abcd"))
    assert found == [Rewards((1.0, 3.0, 2.0), (None,) * 3), Rewards((4.0,), (None,))]


async def test_what_cannot_be_scored_is_found_by_halving() -> None:
    server = Server()
    (found,) = await scored(server.endpoint(), group("a", "ab", "long", "nan", "abc"))
    assert found.rewards == (1.0, 2.0, None, None, 3.0)
    assert found.errors[2:4] == (
        "http_422: too many tokens",
        "non_finite_reward: the answer is nan",
    )
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_a_busy_server_is_asked_again_after_the_time_it_names(status: int) -> None:
    server = Server(
        httpx.Response(status, headers={"retry-after": "7"}),
        httpx.Response(status),
        httpx.ConnectError("broken"),
    )
    (found,) = await scored(server.endpoint(), group("a"))
    assert found.rewards == (1.0,)
    assert server.pauses == [7.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("outcome", "pauses", "reason"),
    [
        pytest.param(httpx.Response(503), [0.25, 0.5, 1.0], "answered http_503", id="busy"),
        pytest.param(httpx.ConnectError("refused"), [0.25, 0.5, 1.0], "refused", id="gone"),
        pytest.param(httpx.ReadTimeout(""), [], "ReadTimeout", id="silent"),
        pytest.param(
            httpx.DecodingError("no gzip"), [0.25, 0.5, 1.0], "no gzip", id="not what it says it is"
        ),
        pytest.param(
            httpx.Response(429, headers={"retry-after": "3600"}), [], "http_429", id="no budget"
        ),
        pytest.param(
            httpx.Response(401, json={"error": {"message": "no key"}}),
            [],
            "http_401: no key; give the server's key with --api-key-env",
            id="no key",
        ),
        pytest.param(
            httpx.Response(404, json={"code": "unknown_model", "detail": "model: 'x'"}),
            [],
            "unknown_model: model: 'x'; check --server, --wire and --model",
            id="no such model",
        ),
        pytest.param(httpx.Response(307), [], "check --server and --wire", id="elsewhere"),
    ],
)
async def test_patience_ends_with_a_named_error(
    outcome: httpx.Response | httpx.RequestError, pauses: list[float], reason: str
) -> None:
    server = Server(*[outcome] * 4)
    with pytest.raises(EvaluationFailed, match=f"^server: .*{URL}/rerank.*{reason}"):
        await scored(server.endpoint(), group("a"))
    assert server.pauses == pauses


async def test_a_server_that_dies_half_way_keeps_what_was_scored() -> None:
    server = Server()
    server.answers_left = 3
    stream = server.endpoint(concurrency=2).score(group("a" * n) for n in range(1, 20))
    found = [(await anext(stream)).rewards for _ in range(3)]
    with pytest.raises(EvaluationFailed, match=f"no answer from {URL}/rerank"):
        await anext(stream)
    assert found == [(1.0,), (2.0,), (3.0,)]


@pytest.mark.parametrize(("name", "most"), [("tei-rerank", 6), ("vllm-classify", 3)])
async def test_groups_are_read_a_bounded_number_ahead(name: WireName, most: int) -> None:
    read = 0

    def groups() -> Iterator[ScoreGroup]:
        nonlocal read
        for _ in range(1_000):
            read += 1
            yield group("a", "ab")

    async with aclosing(Server().endpoint(name, concurrency=3).score(groups())) as stream:
        await anext(stream)
    assert read <= 1 + most


async def test_another_model_than_before_ends_the_stream() -> None:
    server = Server()
    server.headers = {"x-reward-fingerprint": "feed"}
    endpoint = server.endpoint()
    assert (await endpoint.describe()).fingerprint == "feed"
    server.headers = {"x-reward-fingerprint": "beef"}
    with pytest.raises(EvaluationFailed, match=r"the served model changed .*\(beef, feed\)"):
        await scored(endpoint, group("a"))


async def test_a_server_that_tells_nothing_of_its_model_is_described_by_name() -> None:
    described = await Server().endpoint().describe()
    assert (described.model, described.fingerprint, described.kind) == ("default", None, None)


async def test_first_contact_is_over_soon_and_names_what_to_check() -> None:
    server = Server(*[httpx.ConnectError("refused")] * 9)
    with pytest.raises(BenchmarkError, match=f"no answer from {URL}/rerank"):
        await server.endpoint(retry=RetryPolicy(attempts=10**6)).describe()
    assert len(server.requests) == 2
    with pytest.raises(BenchmarkError, match=r"gives no reward to a short question .*http_400: no"):
        await Server(httpx.Response(400, json={"message": "no"})).endpoint().describe()


async def test_the_key_is_sent_as_a_bearer_token() -> None:
    server = Server()
    await scored(server.endpoint(api_key="secret"), group("a"))
    assert server.requests[0].headers["authorization"] == "Bearer secret"
    assert server.requests[0].headers["content-type"] == "application/json"


async def test_an_answer_of_another_length_is_no_answer() -> None:
    two = json.dumps({"data": [{"probs": [1.0]}, {"probs": [2.0]}]})
    (found,) = await scored(
        Server(httpx.Response(200, content=two)).endpoint("vllm-classify"), group("a")
    )
    assert found == Rewards((None,), ("malformed_answer: 2 rewards for 1 inputs",))
