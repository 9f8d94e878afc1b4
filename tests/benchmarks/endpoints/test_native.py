"""The native wire against a scripted server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing

import httpx
import pytest

from benchmarks.endpoints.base import Rewards
from benchmarks.endpoints.native import NativeEndpoint
from benchmarks.errors import BenchmarkError, EvaluationFailed
from corpora.conversation import Conversation
from reward_server.client import ClientOptions, RetryPolicy
from reward_server.errors import CandidateTooLong, RewardServerUnreachable, UnknownModel
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Identity,
    ItemError,
    Kind,
    ModelInfo,
    Problem,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)

pytestmark = pytest.mark.anyio

URL = "http://server:8100"


class Server:
    """Rewards are lengths; ``nan`` has none; a group with ``long`` is refused."""

    def __init__(self, kind: Kind = "rules") -> None:
        self.kind: Kind = kind
        self.fingerprint = "feed"
        self.answers_left = 10**6

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answers_left == 0:
            raise httpx.ConnectError("refused")
        self.answers_left -= 1
        if request.method == "GET":
            if not request.url.path.endswith("/default"):
                return refusal(UnknownModel("model: not served"))
            info = ModelInfo(
                name="default",
                fingerprint=self.fingerprint,
                identity=Identity(kind=self.kind),
                software={"torch": "2"},
            )
            return httpx.Response(200, content=info.model_dump_json())
        asked = ScoreRequest.model_validate_json(request.content)
        if any("long" in group.candidates for group in asked.groups):
            return refusal(CandidateTooLong("group 'x': 9 tokens, limit 8"))
        answer = ScoreResponse(
            model="default",
            fingerprint=self.fingerprint,
            groups=tuple(
                GroupResult(id=group.id, results=tuple(map(result, group.candidates)))
                for group in asked.groups
            ),
            usage=Usage(tokens=1, computed_tokens=1),
        )
        return httpx.Response(200, content=answer.model_dump_json())


def result(candidate: str) -> CandidateResult:
    if candidate == "nan":
        error = ItemError(code="non_finite_reward", detail="the model gave [nan]")
        return CandidateResult(reward=None, tokens=3, error=error)
    return CandidateResult(reward=len(candidate), tokens=3)


def refusal(error: CandidateTooLong | UnknownModel) -> httpx.Response:
    problem = Problem(
        type="about:blank",
        title=error.title,
        status=error.status,
        detail=str(error),
        code=error.code,
        retryable=False,
        request_id="r",
    )
    return httpx.Response(error.status, content=problem.model_dump_json())


def group(*candidates: str) -> ScoreGroup:
    return ScoreGroup.of("q", Conversation.ask("Why?"), candidates)


def endpoint(
    server: Callable[[httpx.Request], httpx.Response], **options: object
) -> NativeEndpoint:
    settings = ClientOptions(
        groups_per_request=2,
        concurrency=2,
        retry=RetryPolicy(attempts=1),
        **options,  # type: ignore[arg-type]  # of the fields that are left
    )
    return NativeEndpoint(URL, settings, transport=httpx.MockTransport(server))


async def scored(asked: NativeEndpoint, *groups: ScoreGroup) -> list[Rewards]:
    async with aclosing(asked.score(groups)) as stream:
        return [rewards async for rewards in stream]


async def test_rewards_and_errors_run_along_the_candidates() -> None:
    found = await scored(endpoint(Server()), group("a", "nan", "abc"), group("ab"))
    assert found == [
        Rewards((1.0, None, 3.0), (None, "non_finite_reward: the model gave [nan]", None), 9),
        Rewards((2.0,), (None,), 3),
    ]


async def test_a_refused_group_has_an_error_for_each_candidate() -> None:
    before, refused, after = await scored(
        endpoint(Server()), group("a"), group("b", "long", "c"), group("ab")
    )
    assert (before.rewards, after.rewards) == ((1.0,), (2.0,))
    assert refused.rewards == (None, None, None)
    assert set(refused.errors) == {"candidate_too_long: group 'x': 9 tokens, limit 8"}


@pytest.mark.parametrize(
    ("kind", "sees_rivals"),
    [
        ("sequence_classification", False),
        ("implicit", False),
        ("pairwise", True),
        ("judge", True),
        ("ensemble", True),
    ],
)
async def test_a_description_tells_model_kind_and_whether_it_compares(
    kind: Kind, sees_rivals: bool
) -> None:
    described = await endpoint(Server(kind)).describe()
    assert (described.model, described.fingerprint) == ("default", "feed")
    assert (described.kind, described.sees_rivals) == (kind, sees_rivals)
    assert described.software == {"torch": "2"}


@pytest.mark.parametrize("is_described", [True, False])
async def test_another_model_than_before_ends_the_stream(is_described: bool) -> None:
    server = Server()
    asked = endpoint(server)
    if is_described:
        await asked.describe()
    else:
        await scored(asked, group("a"))
    server.fingerprint = "beef"
    with pytest.raises(EvaluationFailed, match="beef"):
        await scored(asked, group("a"))


async def test_a_server_that_dies_half_way_keeps_what_was_scored() -> None:
    server = Server()
    server.answers_left = 3  # one says which model it is, two hold two groups each
    asked = NativeEndpoint(
        URL,
        ClientOptions(groups_per_request=2, concurrency=1, retry=RetryPolicy(attempts=1)),
        transport=httpx.MockTransport(server),
    )
    stream = asked.score(group("a" * n) for n in range(1, 20))
    found = [(await anext(stream)).rewards for _ in range(4)]
    with pytest.raises(EvaluationFailed, match=f"no answer from {URL}"):
        await anext(stream)
    assert found == [(1.0,), (2.0,), (3.0,), (4.0,)]


async def test_groups_are_read_a_bounded_number_ahead() -> None:
    read = 0

    def groups() -> Iterator[ScoreGroup]:
        nonlocal read
        for _ in range(1_000):
            read += 1
            yield group("a")

    async with aclosing(endpoint(Server()).score(groups())) as stream:
        await anext(stream)
    assert read <= 10  # 2 groups a request, 2 requests under way and 2 behind them


async def test_whoever_does_not_answer_is_noticed_soon() -> None:
    server = Server()
    server.answers_left = 0
    asked = NativeEndpoint(
        URL, ClientOptions(retry=RetryPolicy(attempts=10**6)), transport=httpx.MockTransport(server)
    )
    with pytest.raises(RewardServerUnreachable, match="start one with"):
        await asked.describe()
    with pytest.raises(BenchmarkError, match=r"; check --model$"):
        await endpoint(Server(), model="other").describe()
    await asked.aclose()
