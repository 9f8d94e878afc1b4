from __future__ import annotations

import math
from functools import partial

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput.latency import (
    TOGETHER,
    WARM_UP,
    Request,
    arrivals,
    capacity,
    open_loop,
    percentiles,
    take_turns,
)
from benchmarks.throughput.methods import MethodFailed
from benchmarks.throughput.workloads import Ids
from corpora.conversation import Conversation
from reward_server.protocol import ScoreGroup

FAST = 1e6
"""Arrivals a second at which nobody waits."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def requests(count: int) -> list[Request]:
    conversation = Conversation.ask("What helps a stuffy nose?")
    return [Request(ScoreGroup.of(str(n), conversation, ["Rest."]), (n,)) for n in range(count)]


@given(st.floats(0.1, 1e3), st.integers(1, 50), st.integers(0, 100))
def test_arrivals_follow_each_other_and_from_the_seed(rate: float, count: int, seed: int) -> None:
    due = arrivals(rate, count, seed=seed)
    assert len(due) == count
    assert due == sorted(due)
    assert due == arrivals(rate, count, seed=seed)


def test_arrivals_keep_their_rate() -> None:
    due = arrivals(20.0, 10_000, seed=0)
    assert due[-1] == pytest.approx(10_000 / 20.0, rel=0.05)


@given(st.floats(1.0, 100.0))
def test_twice_the_rate_is_the_same_pattern_twice_as_dense(rate: float) -> None:
    slow, fast = arrivals(rate, 9, seed=3), arrivals(2 * rate, 9, seed=3)
    assert [2 * moment for moment in fast] == pytest.approx(slow)


def test_percentiles_are_milliseconds() -> None:
    seen = percentiles([0.001 * n for n in range(101)])
    assert seen is not None
    assert (seen.p50, seen.p95, seen.p99) == pytest.approx((50.0, 95.0, 99.0))


def test_no_answer_has_no_percentile() -> None:
    assert percentiles([]) is None


def note(calls: list[tuple[str, int]], name: str, request: Request) -> None:
    calls.append((name, request.ids[0]))


def test_ways_take_turns_and_the_first_requests_do_not_count() -> None:
    calls: list[tuple[str, int]] = []
    pauses: list[float] = []
    seconds = take_turns(
        requests(WARM_UP + 3),
        {name: partial(note, calls, name) for name in "ab"},
        pause=pauses.append,
    )
    assert calls == [(name, n) for n in range(WARM_UP + 3) for name in "ab"]
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3}
    assert len(pauses) == len(calls)


@pytest.mark.anyio
async def test_answered_refused_and_failed_requests_are_told_apart() -> None:
    async def send(group: ScoreGroup, ids: Ids) -> bool:
        if ids[0] % 3 == 2:
            raise MethodFailed("gone")
        return ids[0] % 3 == 0

    load = await open_loop(requests(9), send, of_capacity=0.5, rate_per_s=FAST, seed=0)
    assert (len(load.seconds), load.refused, load.failed) == (3, 3, 3)
    assert all(taken > 0 for taken in load.seconds)


@pytest.mark.anyio
async def test_the_capacity_is_measured_with_all_requests_and_so_many_at_once() -> None:
    sent: list[int] = []
    together, most = 0, 0

    async def send(group: ScoreGroup, ids: Ids) -> bool:
        nonlocal together, most
        together += 1
        most = max(most, together)
        sent.append(ids[0])
        await anyio.lowlevel.checkpoint()
        together -= 1
        return True

    rate = await capacity(requests(3 * TOGETHER), send)
    assert sorted(sent) == list(range(3 * TOGETHER))
    assert most == TOGETHER
    assert math.isfinite(rate)
