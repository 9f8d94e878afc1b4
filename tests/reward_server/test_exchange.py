from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import (
    FingerprintMismatch,
    Overloaded,
    RewardServerError,
    RewardServerUnreachable,
)
from reward_server.exchange import (
    ERRORS_BY_CODE,
    RetryPolicy,
    failure,
    is_worth_retrying,
    join,
    retry_after,
)
from reward_server.protocol import Problem, ScoreResponse, Usage

REQUEST = httpx.Request("POST", "http://server:8100/v1/score")


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


def test_every_error_with_a_code_can_cross_the_wire() -> None:
    assert {kind.code for kind in RewardServerError.__subclasses__()} == set(ERRORS_BY_CODE)


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
