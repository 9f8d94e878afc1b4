"""How long one request takes: on an idle server, and under a fixed rate of arrivals.

The open loop sends requests when they are due, whatever became of the earlier ones, and counts the
time from when a request was due: a server that falls behind cannot slow its callers down and look
better for it. Rates are shares of what the server was seen to answer when it was never idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

import numpy as np

from benchmarks.throughput.timing import FAILURES
from benchmarks.throughput.workloads import Draw, Ids
from reward_server.protocol import ScoreGroup

SHARES = (0.25, 0.5, 0.8)
"""Arrival rates, as shares of the capacity."""

TOGETHER = 16
"""Requests under way together while the capacity is measured."""

PAUSE_SECONDS = 0.01
"""Before each request to an idle server: threads of the one before must have come to rest."""

WARM_UP = 5
"""First requests of a series, which do not count."""

Send = Callable[[ScoreGroup, Ids], Awaitable[bool]]
"""Scores a group of one candidate; whether it was answered, not refused."""


@dataclass(frozen=True, slots=True)
class Request:
    """One candidate behind one conversation, as text and as token ids."""

    group: ScoreGroup
    ids: Ids


Way = Callable[[Request], object]
"""Scores one request and returns when that is done."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of latencies, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass
class Load:
    """What came of one arrival rate."""

    of_capacity: float
    rate_per_s: float
    requests: int
    refused: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of the answered requests."""


def requests_of(draw: Draw) -> list[Request]:
    """The groups of a draw of single candidates, one request each."""
    return [
        Request(group, rendered.inputs[0])
        for group, rendered in zip(draw.groups, draw.rendered, strict=True)
    ]


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """Percentiles in milliseconds; ``None`` without a measurement."""
    if not seconds:
        return None
    p50, p95, p99 = (float(value) * 1e3 for value in np.quantile(seconds, [0.5, 0.95, 0.99]))
    return Percentiles(p50, p95, p99)


def arrivals(rate_per_s: float, count: int, *, seed: int) -> list[float]:
    """Seconds after the start at which requests are due: a Poisson process."""
    rng = Random(f"{seed}/arrivals/{count}")
    return list(accumulate(rng.expovariate(1.0) / rate_per_s for _ in range(count)))


def take_turns(
    requests: Sequence[Request], ways: Mapping[str, Way], *, pause: Callable[[float], None]
) -> dict[str, list[float]]:
    """Seconds of every request by every way, one way after the other, on an idle machine."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for request in requests:
        for name, way in ways.items():
            pause(PAUSE_SECONDS)
            started = time.perf_counter()
            way(request)
            seconds[name].append(time.perf_counter() - started)
    return {name: taken[WARM_UP:] or taken for name, taken in seconds.items()}


async def capacity(requests: Sequence[Request], send: Send) -> float:
    """Requests a second when ``TOGETHER`` of them are always under way."""
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            await send(request.group, request.ids)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(TOGETHER)))
    return len(requests) / (time.perf_counter() - started)


async def open_loop(
    requests: Sequence[Request], send: Send, *, of_capacity: float, rate_per_s: float, seed: int
) -> Load:
    """Sends each request when it is due."""
    load = Load(of_capacity, rate_per_s, len(requests))
    started = time.perf_counter()

    async def one(request: Request, due: float) -> None:
        await asyncio.sleep(started + due - time.perf_counter())
        try:
            is_answered = await send(request.group, request.ids)
        except FAILURES:
            load.failed += 1
            return
        if is_answered:
            load.seconds.append(time.perf_counter() - started - due)
        else:
            load.refused += 1

    due = arrivals(rate_per_s, len(requests), seed=seed)
    await asyncio.gather(*map(one, requests, due))
    return load
