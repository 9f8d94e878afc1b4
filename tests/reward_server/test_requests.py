from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import UserError
from reward_server.errors import RewardServerUnreachable
from reward_server.exchange import Deadline, Pause
from reward_server.protocol import ScoreGroup, ScoreRequest
from reward_server.requests import ClientOptions, Terms, cut, model_exchange, parse_url
from tests.reward_server.test_exchange import BUSY, Clock, group

HTTP = httpx.Client(
    base_url="http://server:8100",
    transport=httpx.MockTransport(lambda request: pytest.fail("nothing is sent here")),
)


@pytest.mark.parametrize("key", ["s3cret\n", "s3crét", ""])
def test_a_key_that_no_header_carries_is_said_without_it(key: str) -> None:
    with pytest.raises(UserError, match=r"^api_key: is empty or has characters") as stop:
        ClientOptions(api_key=key)
    assert "s3cr" not in str(stop.value)


@pytest.mark.parametrize("url", ["server:8100", "ftp://server", "http://", "http://server:port"])
def test_what_is_no_url_is_said_at_once(url: str) -> None:
    with pytest.raises(RewardServerUnreachable, match=r"write it as http://host:port$"):
        parse_url(url)


SIZES = st.lists(st.integers(1, 12), max_size=40)


@given(sizes=SIZES, max_groups=st.integers(1, 6), max_candidates=st.integers(1, 15))
def test_requests_hold_every_group_once_in_order_and_within_bounds(
    sizes: list[int], max_groups: int, max_candidates: int
) -> None:
    groups = [group(str(index), *"x" * size) for index, size in enumerate(sizes)]
    batches = list(cut(groups, max_groups=max_groups, max_candidates=max_candidates))
    assert list(itertools.chain.from_iterable(batches)) == groups
    for batch in batches:
        assert 0 < len(batch) <= max_groups
        candidates = sum(len(one.candidates) for one in batch)
        assert len(batch) == 1 or candidates <= max_candidates


def test_a_full_request_is_cut_before_the_next_group_is_read() -> None:
    read: list[str] = []

    def groups() -> Iterator[ScoreGroup]:
        for name in "abcd":
            read.append(name)
            yield group(name)

    next(cut(groups(), max_groups=2, max_candidates=100))
    assert read == ["a", "b"]


def test_a_job_becomes_requests_as_its_terms_say() -> None:
    options = ClientOptions(
        model="medical",
        on_overflow="truncate",
        lane="bulk",
        use_cache=False,
        groups_per_request=3,
        candidates_per_request=6,
    )
    groups = [group(str(index), *"abc") for index in range(4)] + [group("large", *"abcdefgh")]
    requests = list(Terms(options, "feed").requests(groups))
    assert [len(request.groups) for request in requests] == [2, 2, 1]
    assert [one for request in requests for one in request.groups] == groups
    said = {"model": "medical", "on_overflow": "truncate", "lane": "bulk", "use_cache": False}
    said["expected_fingerprint"] = "feed"
    for request in requests:
        assert request.model_dump(include=set(said)) == said


def sent(effect: httpx.Request | Pause) -> tuple[dict[str, Any], dict[str, float]]:
    """The body of a request, and the limits of the attempt."""
    assert isinstance(effect, httpx.Request)
    return json.loads(effect.content), effect.extensions["timeout"]


JOB = ScoreRequest(groups=(group(),))


def test_a_deadline_goes_with_every_attempt_and_bounds_it() -> None:
    clock = Clock()
    terms = Terms(ClientOptions(), None, Deadline.after(50, clock))
    steps = terms.score_exchange(HTTP, JOB)
    body, limits = sent(next(steps))
    assert (body["deadline_ms"], limits["read"], limits["connect"]) == (50_000, 50, 5)
    clock.now += 48
    assert isinstance(steps.send(BUSY), Pause)
    body, limits = sent(steps.send(None))
    assert (body["deadline_ms"], limits["read"], limits["connect"]) == (2_000, 2, 2)


def test_without_a_deadline_of_the_call_each_request_has_its_own() -> None:
    terms = Terms(ClientOptions(deadline_seconds=50), None)
    body, _ = sent(next(terms.score_exchange(HTTP, JOB)))
    assert 0 < body["deadline_ms"] <= 50_000


def test_without_any_deadline_none_is_sent() -> None:
    body, limits = sent(next(Terms(ClientOptions(), None).score_exchange(HTTP, JOB)))
    assert body["deadline_ms"] is None
    assert limits["read"] == 600


def test_a_model_is_asked_for_by_its_name() -> None:
    request = next(model_exchange(HTTP, ClientOptions(model="medical", deadline_seconds=3)))
    assert isinstance(request, httpx.Request)
    assert (request.method, request.url.path) == ("GET", "/v1/models/medical")
    assert request.extensions["timeout"]["read"] <= 3
