"""Ten times what the server can do, offered for a while whether it answers or not."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.reward_server.faults.conftest import SLOW
from tests.reward_server.faults.load import Job, client, make_job, measured, wait_until
from tests.reward_server.faults.process import Process

OVERLOAD, SECONDS = 10, 30.0
MAX_PENDING_TOKENS = 30_000
"""Five requests of :func:`large`: what waits is worked off in a second or so."""

CLOSED_LOOP_SECONDS = 2.0
CALLERS = 4
PATIENCE = 40
"""How many times longer than the queue implies an accepted request may take: the callers and what
else the machine does take their share of two cores. An unbounded queue would take longer still."""

GROWTH_BYTES = 64 * 2**20
"""By how much the process may grow under overload."""


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    status: int
    seconds: float
    retry_after: str | None
    code: str | None
    retryable: bool | None


@dataclass(frozen=True)
class Capacity:
    """What the server does when it is asked as fast as it answers."""

    requests_per_second: float
    tokens_per_second: float


@pytest.fixture(scope="module")
def large() -> Job:
    return make_job(candidates=128)


@pytest.fixture(scope="module")
def process(folders: tuple[Path, Path]) -> Iterator[Process]:
    queue = ("--max-pending-tokens", str(MAX_PENDING_TOKENS))
    with Process("--model", str(folders[0]), *SLOW, *queue) as process:
        yield process


def send(http: httpx.Client, job: Job) -> Outcome:
    started = time.monotonic()
    response = http.post("/v1/score", json=job.body)
    seconds = time.monotonic() - started
    problem = {} if response.is_success else response.json()
    return Outcome(
        status=response.status_code,
        seconds=seconds,
        retry_after=response.headers.get("retry-after"),
        code=problem.get("code"),
        retryable=problem.get("retryable"),
    )


def closed_loop(http: httpx.Client, job: Job) -> Capacity:
    """As many callers as fit into the queue, each of which asks again when it is answered."""
    ends = time.monotonic() + CLOSED_LOOP_SECONDS
    before = measured(http)

    def ask() -> int:
        answered = 0
        while time.monotonic() < ends:
            answered += send(http, job).status == 200
        return answered

    started = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        answered = sum(asking.result() for asking in [pool.submit(ask) for _ in range(CALLERS)])
    seconds = time.monotonic() - started
    tokens = measured(http)["tokens_total", ""] - before["tokens_total", ""]
    return Capacity(answered / seconds, tokens / seconds)


def open_loop(http: httpx.Client, job: Job, *, rate: float, seconds: float) -> list[Outcome]:
    """``rate`` requests a second for ``seconds``, whether or not they are answered."""
    started = time.monotonic()
    with ThreadPoolExecutor(256) as pool:
        sent: list[Future[Outcome]] = []
        while (elapsed := time.monotonic() - started) < seconds:
            due = int(elapsed * rate) + 1 - len(sent)
            sent += [pool.submit(send, http, job) for _ in range(due)]
            time.sleep(min(1 / rate, 0.05))  # the pace of arrivals
        return [each.result() for each in sent]


@pytest.mark.slow
def test_ten_times_its_capacity_is_answered_in_bounded_time_and_memory(
    process: Process, large: Job
) -> None:
    server = psutil.Process(process.child.pid)
    with client(process.url) as http:
        assert send(http, large).status == 200
        capacity = closed_loop(http, large)
        before, size = measured(http), server.memory_info().rss
        rate = OVERLOAD * capacity.requests_per_second
        outcomes = open_loop(http, large, rate=rate, seconds=SECONDS)
        after, grown = measured(http), server.memory_info().rss
        wait_until(lambda: send(http, large).status == 200, "it has room again")
        assert http.get("/health/ready").status_code == 200

    statuses = Counter(each.status for each in outcomes)
    assert set(statuses) == {200, 429}
    assert len(outcomes) > 5 * capacity.requests_per_second * SECONDS
    for each in outcomes:
        if each.status == 429:
            assert (each.code, each.retryable) == ("overloaded", True)
            assert int(each.retry_after or 0) >= 1
    slowest = max(each.seconds for each in outcomes if each.status == 200)
    assert slowest < PATIENCE * MAX_PENDING_TOKENS / capacity.tokens_per_second
    for status, count in statuses.items():
        key = "requests_total", f"/v1/score,{status}"
        assert after[key] - before.get(key, 0.0) == count
    assert after["pending_tokens", "default"] == 0
    assert grown - size < GROWTH_BYTES
    assert process.is_running


def test_whoever_waits_in_a_full_queue_gets_rewards(process: Process, large: Job) -> None:
    statuses: list[int] = []
    together = threading.Barrier(CALLERS)

    def ask() -> None:
        with client(process.url) as http:
            together.wait(timeout=60)
            for _ in range(5):
                wait_until(lambda: send(http, large).status == 200, "there is room")
                statuses.append(200)

    with ThreadPoolExecutor(CALLERS) as pool:
        for asking in [pool.submit(ask) for _ in range(CALLERS)]:
            asking.result()
    assert statuses == [200] * 5 * CALLERS
