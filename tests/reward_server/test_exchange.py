from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from reward_server.errors import (
    BodyTooLarge,
    CandidateTooLong,
    DeadlineExceeded,
    FingerprintMismatch,
    LimitExceeded,
    Overloaded,
    RewardServerError,
    RewardServerUnreachable,
)
from reward_server.exchange import (
    ERRORS_BY_CODE,
    NEVER,
    Assembly,
    Deadline,
    OnRefused,
    Outcome,
    Part,
    Pause,
    Refused,
    RetryPolicy,
    Steps,
    T,
    exchange,
    failure,
    is_worth_retrying,
    join,
    read_scores,
    retry_after,
    scoring,
)
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Problem,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)

REQUEST = httpx.Request("POST", "http://server:8100/v1/score")


def group(name: str = "q1", *candidates: str) -> ScoreGroup:
    question = Conversation.ask("What helps a stuffy nose?")
    return ScoreGroup.of(name, question, candidates or ("Rest.", "Steam helps."))


def respond(asked: ScoreRequest, *, fingerprint: str = "feed") -> ScoreResponse:
    """Rewards that are the lengths of the candidates."""
    groups = tuple(
        GroupResult(
            id=group.id,
            results=tuple(
                CandidateResult(reward=float(len(text)), tokens=1 + len(text))
                for text in group.candidates
            ),
        )
        for group in asked.groups
    )
    tokens = sum(result.tokens for group in groups for result in group.results)
    usage = Usage(tokens=tokens, computed_tokens=tokens)
    return ScoreResponse(model=asked.model, fingerprint=fingerprint, groups=groups, usage=usage)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drive(
    steps: Steps[T], send: Callable[[httpx.Request], Outcome], clock: Clock | None = None
) -> tuple[T, list[httpx.Request | Pause]]:
    """Performs an exchange: what came of it, and its effects. Pauses let the clock go on."""
    effects: list[httpx.Request | Pause] = []
    outcome = None
    try:
        while True:
            effect = steps.send(outcome)
            effects.append(effect)
            outcome = None if isinstance(effect, Pause) else send(effect)
            if clock and isinstance(effect, Pause):
                clock.now += effect.seconds
    except StopIteration as done:
        return done.value, effects


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (httpx.Response(429), True),
        (httpx.Response(502), True),
        (httpx.Response(503), True),
        (httpx.Response(504), True),
        (httpx.Response(500), False),
        (httpx.Response(409), False),
        (httpx.Response(422), False),
        (httpx.Response(307), False),
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("slow"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (httpx.ReadError("reset"), True),
        (httpx.ReadTimeout("still busy"), False),
    ],
    ids=repr,
)
def test_only_what_may_succeed_later_is_repeated(
    outcome: httpx.Response | httpx.TransportError, expected: bool
) -> None:
    assert is_worth_retrying(outcome) is expected


def test_pauses_double_up_to_a_bound() -> None:
    policy = RetryPolicy(first_pause_seconds=1, longest_pause_seconds=4)
    pauses = [policy.pause(attempt, waited=0, asked_for=0) for attempt in range(1, 5)]
    assert pauses == [1, 2, 4, 4]


@given(
    attempt=st.integers(1, 20),
    waited=st.floats(0, 200),
    asked_for=st.floats(0, 200),
)
def test_a_pause_respects_the_server_and_the_budget(
    attempt: int, waited: float, asked_for: float
) -> None:
    policy = RetryPolicy()
    seconds = policy.pause(attempt, waited=waited, asked_for=asked_for)
    if seconds is None:
        return
    assert seconds >= asked_for
    assert waited + seconds <= policy.budget_seconds
    assert attempt < policy.attempts


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("Wed, 21 Oct 2026", 0.0)]
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float) -> None:
    assert retry_after(httpx.Response(429, headers={"retry-after": header})) == seconds
    assert retry_after(httpx.ConnectError("refused")) == 0.0


def problem(code: str, status: int = 409) -> bytes:
    document = Problem(
        type="about:blank",
        title="t",
        status=status,
        detail="what happened",
        code=code,
        retryable=False,
        request_id="r",
    )
    return document.model_dump_json().encode()


@pytest.mark.parametrize("code", sorted(ERRORS_BY_CODE))
def test_a_problem_becomes_the_error_that_the_server_raised(code: str) -> None:
    error = failure(REQUEST, httpx.Response(409, content=problem(code)))
    assert type(error) is ERRORS_BY_CODE[code]
    assert str(error) == "what happened"


def tree(kind: type[RewardServerError]) -> Iterator[type[RewardServerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_of_the_tree_can_cross_the_wire() -> None:
    kinds = [kind for kind in tree(RewardServerError) if kind.__module__ == "reward_server.errors"]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.code: kind for kind in kinds} == ERRORS_BY_CODE


@pytest.mark.parametrize("code", sorted(ERRORS_BY_CODE))
def test_a_problem_is_retried_as_its_class_says(code: str) -> None:
    kind = ERRORS_BY_CODE[code]
    response = httpx.Response(kind.status, content=problem(code, kind.status))
    assert is_worth_retrying(response) is kind.retryable


def test_what_may_succeed_later_is_known_by_name() -> None:
    retried = {code for code, kind in ERRORS_BY_CODE.items() if kind.retryable}
    assert retried == {
        "body_too_slow",
        "overloaded",
        "quota_exceeded",
        "device_failed",
        "draining",
        "audit_failed",
    }


def test_an_unknown_code_is_a_plain_error() -> None:
    error = failure(REQUEST, httpx.Response(418, content=problem("teapot", 418)))
    assert type(error) is RewardServerError


def test_an_exhausted_retry_keeps_what_the_server_asked_for() -> None:
    response = httpx.Response(429, content=problem("overloaded", 429), headers={"retry-after": "9"})
    error = failure(REQUEST, response)
    assert isinstance(error, Overloaded)
    assert error.retry_after == 9


def test_a_stranger_on_the_port_is_named() -> None:
    error = failure(REQUEST, httpx.Response(200 + 204, content=b"<html>"))
    assert str(error).startswith("http://server:8100 answered 404 without a problem document")


def test_an_unreachable_server_is_one_line_with_url_and_fix() -> None:
    error = failure(REQUEST, httpx.ConnectError("Connection refused"))
    assert isinstance(error, RewardServerUnreachable)
    assert str(error) == (
        "server: no answer from http://server:8100 (Connection refused); start one with "
        "`medpref serve reward --model PATH` or give the URL of one that runs"
    )


def test_answers_of_two_models_are_not_joined() -> None:
    answers = [
        ScoreResponse(
            model="default",
            fingerprint=fingerprint,
            groups=(),
            usage=Usage(tokens=0, computed_tokens=0),
        )
        for fingerprint in ("feed", "beef")
    ]
    with pytest.raises(FingerprintMismatch, match=r"changed during the job \(beef, feed\)"):
        join(answers)


def test_an_answer_of_another_model_than_expected_is_refused() -> None:
    request = ScoreRequest(groups=(group(),), expected_fingerprint="beef")
    content = respond(request, fingerprint="feed").model_dump_json()
    response = httpx.Response(200, content=content, request=REQUEST)
    with pytest.raises(FingerprintMismatch, match="'beef', the rewards are of 'feed'"):
        read_scores(request, response)


def test_a_proxy_that_takes_no_such_body_is_like_the_server() -> None:
    error = failure(REQUEST, httpx.Response(413, content=b"<html>"))
    assert type(error) is BodyTooLarge


class Server:
    """Takes requests of so many groups, none of them among the ``bad``."""

    def __init__(self, *, limit: int = 100, bad: str = "", code: str = "candidate_too_long"):
        self.limit = limit
        self.bad = bad
        self.code = code

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = ScoreRequest.model_validate_json(request.content)
        if len(asked.groups) > self.limit:
            return httpx.Response(422, content=problem("limit_exceeded", 422))
        if any(one.id in self.bad for one in asked.groups):
            return httpx.Response(422, content=problem(self.code, 422))
        content = respond(asked).model_dump_json()
        return httpx.Response(200, content=content, request=request)


def score(
    names: str, server: Server, on_refused: OnRefused = "raise"
) -> tuple[list[Part], list[httpx.Request | Pause]]:
    job = ScoreRequest(groups=tuple(group(name) for name in names))

    def build(part: ScoreRequest) -> httpx.Request:
        return httpx.Request("POST", REQUEST.url, content=part.model_dump_json())

    return drive(scoring(job, build, RetryPolicy(), on_refused=on_refused), server)


def outcomes(parts: list[Part]) -> list[str]:
    """The name of each group, in capitals where it was refused."""
    assembly = Assembly()
    found = [item.outcome for part in parts for item in assembly.add(part)]
    refused = iter([part.group.id.upper() for part in parts if isinstance(part, Refused)])
    return [one.id if isinstance(one, GroupResult) else next(refused) for one in found]


def test_a_request_that_is_too_big_is_halved() -> None:
    parts, effects = score("abcdefg", Server(limit=2))
    assert outcomes(parts) == list("abcdefg")
    assert len(effects) == 7  # 7, then 3 and 4, then 1, 2 and 2, 2


def test_a_group_that_is_too_big_by_itself_is_the_error() -> None:
    with pytest.raises(LimitExceeded, match="what happened"):
        score("abcd", Server(bad="c", code="limit_exceeded"))


def test_a_refusal_of_one_group_ends_a_job_that_wants_all() -> None:
    with pytest.raises(CandidateTooLong):
        score("abcd", Server(bad="c"))


@given(
    names=st.integers(1, 26).map(lambda count: "abcdefghijklmnopqrstuvwxyz"[:count]),
    bad=st.text("abcdefghijklmnopqrstuvwxyz", max_size=8),
    limit=st.integers(1, 30),
)
def test_kept_refusals_cost_the_other_groups_nothing(names: str, bad: str, limit: int) -> None:
    parts, effects = score(names, Server(limit=limit, bad=bad), "keep")
    assert outcomes(parts) == [name.upper() if name in bad else name for name in names]
    assert len(effects) <= 2 * len(names) - 1


def test_an_error_that_concerns_every_group_is_not_kept() -> None:
    with pytest.raises(RewardServerError, match="what happened"):
        score("abcd", Server(bad="c", code="forbidden"), "keep")


def test_groups_of_a_stream_are_numbered_through() -> None:
    assembly = Assembly()
    first = respond(ScoreRequest(groups=(group("a"), group("b"))))
    refused = Refused(group("c"), "default", CandidateTooLong("too long"))
    items = [item for part in (first, refused, first) for item in assembly.add(part)]
    assert [item.index for item in items] == [0, 1, 2, 3, 4]
    assert [item.fingerprint for item in items] == ["feed", "feed", None, "feed", "feed"]
    assert items[1].result.id == "b"
    with pytest.raises(CandidateTooLong):
        _ = items[2].result


BUSY = httpx.Response(429, content=problem("overloaded", 429))


def test_no_deadline_never_passes() -> None:
    assert Deadline.after(None) is NEVER
    assert NEVER.milliseconds() is None
    assert not NEVER.has_passed()


def test_a_deadline_counts_down_in_milliseconds() -> None:
    clock = Clock()
    deadline = Deadline.after(2.5, clock)
    assert deadline.milliseconds() == 2500
    clock.now += 2.4995
    assert deadline.milliseconds() == 1
    assert deadline.has_passed()


def test_every_attempt_is_built_anew() -> None:
    clock = Clock()
    deadline = Deadline.after(10, clock)
    left: list[int | None] = []

    def build() -> httpx.Request:
        left.append(deadline.milliseconds())
        return REQUEST

    answers = iter([BUSY, BUSY, httpx.Response(200)])
    policy = RetryPolicy(first_pause_seconds=1)
    drive(exchange(build, policy, deadline), lambda request: next(answers), clock)
    assert left == [10_000, 9_000, 7_000]


def test_no_pause_runs_into_the_deadline() -> None:
    clock = Clock()
    policy = RetryPolicy(first_pause_seconds=4, longest_pause_seconds=60)
    steps = exchange(lambda: REQUEST, policy, Deadline.after(10, clock))
    with pytest.raises(DeadlineExceeded, match="no answer within 10 s") as stop:
        drive(steps, lambda request: BUSY, clock)
    assert isinstance(stop.value.__cause__, Overloaded)
    assert clock.now == 104.0


def test_a_silence_that_outlasts_the_deadline_is_its_error() -> None:
    clock = Clock()

    def silence(request: httpx.Request) -> httpx.TransportError:
        clock.now += 10
        return httpx.ReadTimeout("timed out")

    with pytest.raises(DeadlineExceeded, match="no answer within 10 s"):
        drive(exchange(lambda: REQUEST, RetryPolicy(), Deadline.after(10, clock)), silence, clock)


def test_nothing_is_sent_after_the_deadline() -> None:
    clock = Clock()
    deadline = Deadline.after(10, clock)
    clock.now += 10
    with pytest.raises(DeadlineExceeded):
        next(exchange(lambda: REQUEST, RetryPolicy(), deadline))


def test_an_answer_that_comes_late_is_an_answer() -> None:
    clock = Clock()

    def late(request: httpx.Request) -> httpx.Response:
        clock.now += 11
        return httpx.Response(200)

    steps = exchange(lambda: REQUEST, RetryPolicy(), Deadline.after(10, clock))
    response, _ = drive(steps, late, clock)
    assert response.is_success


def test_the_server_s_own_deadline_error_is_final() -> None:
    answer = httpx.Response(504, content=problem("deadline_exceeded", 504))
    with pytest.raises(DeadlineExceeded, match="what happened"):
        drive(exchange(lambda: REQUEST, RetryPolicy()), lambda request: answer)
