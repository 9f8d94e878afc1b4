"""The judge against a real HTTP server that answers like a chat endpoint, well or badly."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reward_server.errors import DeadlineExceeded, Draining, ServerStartError
from reward_server.exchange import RetryPolicy
from reward_server.protocol import CandidateResult, ChatMessage, ScoreGroup
from reward_server.scorer import Call
from reward_server.scorers.judge import JudgeScorer, Reading, pause_after
from reward_server.scorers.rubric import PUBLISHED, Rubric
from reward_server.specs import JudgeSpec

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Answer = Callable[[Body], Awaitable[Response]]


def verdict(helpfulness: float, faithfulness: float, verifiability: float) -> str:
    levels = {
        "helpfulness": helpfulness,
        "faithfulness": faithfulness,
        "verifiability": verifiability,
    }
    return f"It is sound.\n{json.dumps(levels)}"


def says(text: str | None, *, finish: str = "stop", tokens: int | None = None) -> Response:
    content: Body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]
    }
    if tokens is not None:
        content["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": tokens}
    return JSONResponse(content)


class Endpoint:
    """A chat endpoint on a loopback port. Gives one answer after the other, the last for ever."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.app = Starlette(
            routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])]
        )
        self.answers: list[Response | Answer] = [says(verdict(4, 3, 5))]
        self.closing = asyncio.Event()
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []

    async def complete(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        self.bodies.append(json.loads(await request.body()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, Response) else await answer(self.bodies[-1])

    async def never(self, body: Body) -> Response:
        """An answer that comes when nobody waits for it any more."""
        await self.closing.wait()
        return Response("late", 503)

    @property
    def seeds(self) -> list[int]:
        return [body["seed"] for body in self.bodies]

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(listener.getsockname()[1])
        config = uvicorn.Config(endpoint.app, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield endpoint
        endpoint.closing.set()
        server.should_exit = True
        await serving


class Pauses:
    """Takes no time and remembers how long it should have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@asynccontextmanager
async def judging(
    url: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **settings: Any
) -> AsyncIterator[JudgeScorer]:
    scorer = JudgeScorer("judge", make_spec(url=url, **settings), sleep=sleep)
    scorer.start()
    try:
        yield scorer
    finally:
        await scorer.aclose()


def make_spec(**settings: Any) -> JudgeSpec:
    basic = {"kind": "judge", "url": "http://127.0.0.1:1/v1", "model": "grader"}
    return JudgeSpec.model_validate(basic | settings)


def group(name: str = "q", *candidates: str, reference: str | None = None) -> ScoreGroup:
    question = ChatMessage(role="user", content="What helps?")
    return ScoreGroup(
        id=name, messages=(question,), candidates=candidates or ("Rest.",), reference=reference
    )


async def results(scorer: JudgeScorer, *groups: ScoreGroup) -> list[CandidateResult]:
    scored = await scorer.score(groups or [group()], Call())
    return [result for answer in scored.groups for result in answer.results]


def reason(result: CandidateResult) -> str:
    """Why a candidate has no verdict."""
    assert result.reward is None
    assert result.parts is None
    assert result.error is not None
    assert result.error.code == "judge_failed"
    return result.error.detail


async def test_a_reward_is_the_mean_of_the_criteria(endpoint: Endpoint) -> None:
    async with judging(endpoint.url) as scorer:
        (result,) = await results(scorer)
    assert result.reward == 4.0
    assert result.parts == {"helpfulness": 4.0, "faithfulness": 3.0, "verifiability": 5.0}
    assert (result.tokens, result.disagreement, result.error) == (0, None, None)


async def test_the_endpoint_is_asked_as_the_settings_say(endpoint: Endpoint) -> None:
    async with judging(endpoint.url + "/", temperature=0.7, max_tokens=99) as scorer:
        await results(scorer, group("q", "Heparin.", reference="Aspirin."))
    prompt = Rubric().prompt(group(reference="Aspirin."), "Heparin.")
    assert endpoint.bodies == [
        {
            "model": "grader",
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.7,
            "max_tokens": 99,
            "seed": 0,
        }
    ]
    assert "authorization" not in endpoint.headers[0]


async def test_results_keep_the_order_of_groups_and_candidates(endpoint: Endpoint) -> None:
    async def by_length(body: Body) -> Response:
        prompt: str = body["messages"][0]["content"]
        level = prompt.partition("<response>\n")[2].index("\n")
        return says(verdict(level, level, level))

    endpoint.answers = [by_length]
    async with judging(endpoint.url, concurrency=3) as scorer:
        scored = await scorer.score([group("q", "x", "xxxx", "xx"), group("r", "xxxxx")], Call())
    assert [answer.id for answer in scored.groups] == ["q", "r"]
    assert [[r.reward for r in answer.results] for answer in scored.groups] == [[1, 4, 2], [5]]


async def test_samples_have_seeds_of_their_own_and_a_spread(endpoint: Endpoint) -> None:
    levels = [1, 2, 3, 4]

    async def by_seed(body: Body) -> Response:
        return says(verdict(levels[body["seed"]], 5, 3))

    endpoint.answers = [by_seed]
    async with judging(endpoint.url, samples=4, temperature=1.0) as scorer:
        (result,) = await results(scorer)
    assert sorted(endpoint.seeds) == [0, 1, 2, 3]
    assert result.parts == {"helpfulness": 2.5, "faithfulness": 5.0, "verifiability": 3.0}
    assert result.reward == pytest.approx(3.5)
    assert result.disagreement == pytest.approx(1.25**0.5 / 3)


async def test_the_endpoints_tokens_are_counted_with_those_of_failures(endpoint: Endpoint) -> None:
    endpoint.answers = [says("no idea", tokens=7), says(verdict(1, 1, 1), tokens=11)]
    async with judging(endpoint.url, concurrency=1) as scorer:
        scored = await scorer.score([group("q", "a", "b")], Call())
    assert (scored.usage.tokens, scored.usage.computed_tokens) == (29, 29)
    assert scored.engine is None


async def test_an_unreadable_verdict_is_asked_for_again_with_another_seed(
    endpoint: Endpoint, pauses: Pauses
) -> None:
    endpoint.answers = [says("no idea"), says("{}"), says(verdict(2, 2, 2))]
    async with judging(endpoint.url, pauses, attempts=3) as scorer:
        (result,) = await results(scorer)
    assert result.reward == 2.0
    assert endpoint.seeds == [0, 1, 2]
    assert pauses.seconds == [0, 0]


async def test_a_repeated_sample_never_takes_the_seed_of_another(endpoint: Endpoint) -> None:
    endpoint.answers = [says("no idea")]
    async with judging(endpoint.url, samples=2, attempts=3, temperature=1.0) as scorer:
        await results(scorer)
    assert sorted(endpoint.seeds) == [0, 1, 2, 3, 4, 5]


GARBAGE = [
    pytest.param(says("I give it a 4."), "unreadable verdict: it holds no JSON object", id="text"),
    pytest.param(says(verdict(4, 3, 6)), "verifiability is not between 1 and 5", id="range"),
    pytest.param(says(None), "unreadable verdict: it holds no JSON object", id="null"),
    pytest.param(says(verdict(4, 3, 5), finish="length"), "it was cut at max_tokens", id="cut"),
    pytest.param(Response("<html>"), "the endpoint's answer is no chat completion", id="html"),
    pytest.param(Response(b"\xff\xfe"), "is no chat completion", id="bytes"),
    pytest.param(Response(""), "is no chat completion", id="nothing"),
    pytest.param(JSONResponse({"choices": []}), "is no chat completion", id="no-choice"),
    pytest.param(JSONResponse([1]), "is no chat completion", id="list"),
]


@pytest.mark.parametrize(("answer", "expected"), GARBAGE)
async def test_what_cannot_be_read_is_an_error_and_never_a_number(
    endpoint: Endpoint, answer: Response, expected: str
) -> None:
    endpoint.answers = [answer]
    async with judging(endpoint.url, attempts=2) as scorer:
        (result,) = await results(scorer)
    assert expected in reason(result)
    assert len(endpoint.bodies) == 2


async def test_a_failed_candidate_does_not_spoil_its_neighbours(endpoint: Endpoint) -> None:
    async def by_candidate(body: Body) -> Response:
        is_bad = "<response>\nbad\n" in body["messages"][0]["content"]
        return says("no idea" if is_bad else verdict(3, 3, 3))

    endpoint.answers = [by_candidate]
    async with judging(endpoint.url) as scorer:
        first, second, third = await results(scorer, group("q", "good", "bad"), group("r", "good"))
    assert first.reward == third.reward == 3.0
    assert "no JSON object" in reason(second)


async def test_one_sample_without_a_verdict_fails_the_candidate(endpoint: Endpoint) -> None:
    async def by_seed(body: Body) -> Response:
        return says("no idea" if body["seed"] == 1 else verdict(3, 3, 3))

    endpoint.answers = [by_seed]
    async with judging(endpoint.url, samples=3, attempts=1) as scorer:
        (result,) = await results(scorer)
    assert "no JSON object" in reason(result)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_waited_out(
    endpoint: Endpoint, pauses: Pauses, status: int
) -> None:
    endpoint.answers = [Response("busy", status), Response("busy", status), says(verdict(3, 3, 3))]
    async with judging(endpoint.url, pauses) as scorer:
        (result,) = await results(scorer)
    assert result.reward == 3.0
    assert pauses.seconds == [0.25, 0.5]
    assert endpoint.seeds == [0, 0, 0]


async def test_a_failure_that_does_not_pass_ends_after_all_attempts(
    endpoint: Endpoint, pauses: Pauses
) -> None:
    endpoint.answers = [Response("busy", 503)]
    async with judging(endpoint.url, pauses, attempts=4) as scorer:
        (result,) = await results(scorer)
    assert reason(result) == "the judge's endpoint answered 503"
    assert len(endpoint.bodies) == 4
    assert len(pauses.seconds) == 3


@pytest.mark.parametrize("status", [307, 400, 401, 404, 422])
async def test_a_refusal_is_final(endpoint: Endpoint, pauses: Pauses, status: int) -> None:
    endpoint.answers = [Response("no", status)]
    async with judging(endpoint.url, pauses) as scorer:
        (result,) = await results(scorer)
    assert reason(result) == f"the judge's endpoint answered {status}"
    assert len(endpoint.bodies) == 1


async def test_the_endpoint_says_when_to_come_back(endpoint: Endpoint, pauses: Pauses) -> None:
    busy = Response("busy", 429, {"retry-after": "7"})
    endpoint.answers = [busy, says(verdict(3, 3, 3))]
    async with judging(endpoint.url, pauses) as scorer:
        (result,) = await results(scorer)
    assert result.reward == 3.0
    assert pauses.seconds == [7.0]


async def test_nobody_waits_as_long_as_an_endpoint_likes(
    endpoint: Endpoint, pauses: Pauses
) -> None:
    endpoint.answers = [Response("busy", 429, {"retry-after": "86400"})]
    async with judging(endpoint.url, pauses) as scorer:
        (result,) = await results(scorer)
    assert reason(result) == "the judge's endpoint answered 429"
    assert pauses.seconds == []


async def test_an_endpoint_that_is_away_is_an_error_of_each_candidate(pauses: Pauses) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with judging(url, pauses, attempts=2) as scorer:
            found = await results(scorer, group("q", "a", "b"))
            assert scorer.is_ready
    assert [reason(result) for result in found] == ["the judge gave no answer (ConnectError)"] * 2
    assert pauses.seconds == [0.25, 0.25]


async def test_a_connection_lost_amid_the_answer_is_tried_again(
    endpoint: Endpoint, pauses: Pauses
) -> None:
    async def torn(body: Body) -> Response:
        return Response("half", headers={"content-length": "999"})

    endpoint.answers = [torn, says(verdict(3, 3, 3))]
    async with judging(endpoint.url, pauses) as scorer:
        (result,) = await results(scorer)
    assert result.reward == 3.0
    assert pauses.seconds == [0.25]


async def test_a_request_that_takes_too_long_is_given_up(
    endpoint: Endpoint, pauses: Pauses
) -> None:
    endpoint.answers = [endpoint.never]
    async with judging(endpoint.url, pauses, timeout_seconds=0.05, attempts=1) as scorer:
        (result,) = await results(scorer)
    assert reason(result) == "the judge gave no answer (ReadTimeout)"


async def test_an_answer_in_small_drops_does_not_outlast_the_timeout(endpoint: Endpoint) -> None:
    class Dripping(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not endpoint.closing.is_set():
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.005)

    endpoint.answers = [Dripping()]
    async with judging(endpoint.url, timeout_seconds=0.05, attempts=1) as scorer:
        (result,) = await results(scorer)
    assert reason(result) == "the judge gave no answer (ReadTimeout)"


async def test_no_more_verdicts_are_under_way_than_allowed(endpoint: Endpoint) -> None:
    running = peak = 0
    pair = asyncio.Event()

    async def answer(body: Body) -> Response:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == 2:
            pair.set()
        await pair.wait()  # so the first one sees a second beside it
        running -= 1
        return says(verdict(3, 3, 3))

    endpoint.answers = [answer]
    async with judging(endpoint.url, concurrency=2, samples=2) as scorer:
        first, second = await asyncio.gather(
            results(scorer, group("q", "a", "b")), results(scorer, group("r", "c", "d"))
        )
    assert [result.reward for result in first + second] == [3.0] * 4
    assert peak == 2


async def test_the_deadline_of_the_call_ends_the_request(endpoint: Endpoint) -> None:
    endpoint.answers = [endpoint.never]
    async with judging(endpoint.url) as scorer:
        with pytest.raises(DeadlineExceeded, match=r"^deadline_ms: it passed before the judge had"):
            await scorer.score([group("q", "a", "b")], Call(deadline=time.monotonic() + 0.05))
        endpoint.answers = [says(verdict(3, 3, 3))]
        (result,) = await results(scorer)
    assert result.reward == 3.0


async def test_the_deadline_ends_a_pause_too(endpoint: Endpoint) -> None:
    async def endless(seconds: float) -> None:
        await asyncio.Event().wait()

    endpoint.answers = [Response("busy", 503)]
    async with judging(endpoint.url, endless) as scorer:
        with pytest.raises(DeadlineExceeded):
            await scorer.score([group()], Call(deadline=time.monotonic() + 0.05))


async def test_nothing_is_asked_after_the_deadline(endpoint: Endpoint) -> None:
    async with judging(endpoint.url) as scorer:
        with pytest.raises(DeadlineExceeded):
            await scorer.score([group()], Call(deadline=time.monotonic()))
    assert endpoint.bodies == []


async def test_closing_finishes_what_was_admitted_and_refuses_the_rest(endpoint: Endpoint) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def gated(body: Body) -> Response:
        entered.set()
        await gate.wait()
        return says(verdict(3, 3, 3))

    endpoint.answers = [gated]
    async with judging(endpoint.url, concurrency=1) as scorer:
        scoring = asyncio.create_task(results(scorer, group("q", "a", "b", "c")))
        await entered.wait()
        closing = asyncio.create_task(scorer.aclose())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await results(scorer)
        assert not scorer.is_ready
        assert not closing.done()
        gate.set()
        assert [result.reward for result in await scoring] == [3.0] * 3
        await closing


async def test_a_scorer_that_was_not_started_takes_nothing(endpoint: Endpoint) -> None:
    scorer = JudgeScorer("judge", make_spec(url=endpoint.url))
    assert not scorer.is_ready
    with pytest.raises(Draining):
        await results(scorer)
    await scorer.aclose()


async def test_a_cancelled_request_leaves_nothing_under_way(endpoint: Endpoint) -> None:
    entered = asyncio.Event()

    async def held(body: Body) -> Response:
        entered.set()
        return await endpoint.never(body)

    endpoint.answers = [held, says(verdict(3, 3, 3))]
    async with judging(endpoint.url, concurrency=1) as scorer:
        scoring = asyncio.create_task(results(scorer))
        await entered.wait()
        scoring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scoring
        assert (await results(scorer))[0].reward == 3.0  # the only slot is free again


async def test_the_key_comes_from_the_environment(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADER_KEY", "s3cret\n")
    async with judging(endpoint.url, api_key_env="GRADER_KEY") as scorer:
        await results(scorer)
        assert "s3cret" not in scorer.info.model_dump_json()
    assert endpoint.headers[0]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_key_that_is_not_there_stops_the_start(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("GRADER_KEY", value)
    with pytest.raises(ServerStartError, match=r"^api_key_env: 'GRADER_KEY' is not set; put"):
        JudgeScorer("judge", make_spec(api_key_env="GRADER_KEY"))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://host:x/v1", "v1"]
)
def test_a_url_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(ServerStartError, match=r"^url: .* is no endpoint; write it as http://host"):
        JudgeScorer("judge", make_spec(url=url))


async def test_a_rubric_file_takes_the_place_of_the_published_one(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    file = tmp_path / "rubric.txt"
    file.write_text("Grade it.\n{conversation}\n{reference}\n{candidate}", encoding="utf-8")
    async with judging(endpoint.url, rubric=file) as scorer:
        await results(scorer)
    assert endpoint.prompts[0].startswith("Grade it.\n<conversation>")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^rubric: .* cannot be read \(.*\); give a text file in UTF-8$"),
        (b"\xff", r"^rubric: .* cannot be read \(.*\); give a text file in UTF-8$"),
        (b"{conversation} {candidate}", r"^rubric: the text has no \{reference\}; write"),
    ],
    ids=["missing", "no-text", "no-place"],
)
def test_a_rubric_that_cannot_be_used_stops_the_start(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "rubric.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ServerStartError, match=message):
        JudgeScorer("judge", make_spec(rubric=file))


def test_the_fingerprint_covers_what_decides_a_reward_and_nothing_else(tmp_path: Path) -> None:
    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_text(PUBLISHED, encoding="utf-8")
    other.write_text(PUBLISHED + "\nBe strict.", encoding="utf-8")

    def fingerprint(**settings: Any) -> str:
        return JudgeScorer("judge", make_spec(**settings)).info.fingerprint

    different = [
        fingerprint(),
        fingerprint(model="another"),
        fingerprint(temperature=0.5),
        fingerprint(samples=2),
        fingerprint(max_tokens=99),
        fingerprint(rubric=other),
    ]
    assert len(set(different)) == len(different)
    assert different[0] == fingerprint(
        url="https://elsewhere/v1", rubric=same, concurrency=1, attempts=9, timeout_seconds=1
    )


def test_the_judge_is_told_as_it_is() -> None:
    info = JudgeScorer("grades", make_spec()).info
    assert (info.name, info.identity.kind, info.is_deterministic) == ("grades", "judge", False)
    assert info.identity.parameters == {
        "model": "grader",
        "rubric": Rubric().sha256,
        "temperature": 0.0,
        "samples": 1,
        "max_tokens": 512,
    }


@pytest.mark.parametrize(
    ("reading", "requests", "expected"),
    [
        (Reading(again="never"), 1, None),
        (Reading(again="at_once"), 1, 0.0),
        (Reading(again="at_once"), 3, None),
        (Reading(again="after_a_pause"), 2, 0.5),
        (Reading(again="after_a_pause", asked_for=9), 1, 9.0),
        (Reading(again="after_a_pause"), 3, None),
    ],
)
def test_every_verdict_has_so_many_requests(
    reading: Reading, requests: int, expected: float | None
) -> None:
    policy = RetryPolicy(attempts=3)
    assert pause_after(reading, policy, requests=requests, waited=0) == expected


def test_a_verdict_has_a_budget_of_pauses() -> None:
    reading = Reading(again="after_a_pause")
    policy = RetryPolicy(attempts=99, budget_seconds=10)
    assert pause_after(reading, policy, requests=3, waited=9) == 1.0
    assert pause_after(reading, policy, requests=4, waited=9) is None
