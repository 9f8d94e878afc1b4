"""Interleaved measurement: every method once, then every method again, in rotated order.

A machine drifts: it heats up, others use it. So no method has a stretch of time for itself. What
is timed is ``score`` alone, on text that nobody has seen, behind a device that has nothing left to
do. A method that fails is out for the rest of the workload, with its reason; the others go on.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx
import torch

from benchmarks.throughput.methods import Method
from benchmarks.throughput.options import MethodName
from benchmarks.throughput.workloads import Draw
from foundation.errors import JobError, UserError

FAILURES = (JobError, UserError, httpx.HTTPError, ImportError, OSError, RuntimeError)
"""What a method may raise, from torch, a server or a client; anything else is our own mistake."""

CLOSE = 1.25
"""Choices whose first trial took at most so many times the fastest are tried again."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One measurement."""

    seconds: float
    rewards: list[float]


@dataclass
class Outcome:
    """All measurements of one method on one workload."""

    choice: str = ""
    timed: list[Timed] = field(default_factory=list)
    failure: str | None = None

    @property
    def seconds(self) -> list[float]:
        return [one.seconds for one in self.timed]


def rotated(names: Sequence[MethodName], by: int) -> list[MethodName]:
    """``names`` in the order of one repetition: each is first, second, … equally often."""
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]


def measure(
    methods: Mapping[MethodName, Method],
    draws: Sequence[Draw],
    *,
    tuning: Draw,
    on_repetition: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
) -> dict[MethodName, Outcome]:
    """Tunes each method, then scores every draw with each.

    Args:
        methods: what to measure, by name.
        draws: one a repetition.
        tuning: a smaller draw of the same lengths; it also warms everything up.
        on_repetition: called before each repetition, on a machine that rests.
        on_step: called after each measurement, and after each tuning.
    """
    outcomes = {name: Outcome() for name in methods}
    for name, method in methods.items():
        _attempt(partial(_tune, draw=tuning), method, outcomes[name])
        on_step()
    for repetition, draw in enumerate(draws):
        on_repetition()
        for name in rotated(list(methods), repetition):
            _attempt(partial(_repeat, draw=draw), methods[name], outcomes[name])
            on_step()
    return outcomes


def timed(method: Method, draw: Draw) -> Timed:
    """One measurement of one method."""
    method.prepare(draw)
    gc.collect()
    synchronise()
    started = time.perf_counter()
    rewards = method.score(draw)
    synchronise()
    seconds = time.perf_counter() - started
    if method.settle_seconds:
        time.sleep(method.settle_seconds)
    return Timed(seconds, rewards)


def tune(method: Method, draw: Draw) -> str:
    """Leaves the method, warmed up, with the fastest of its choices, which is returned.

    Choices that come close to the fastest are tried twice: noise must not decide for the slower.
    """
    method.choose(0)
    timed(method, draw)
    seconds = [0.0]
    if len(method.choices) > 1:
        seconds = [_try(method, index, draw) for index in range(len(method.choices))]
        close = [i for i, taken in enumerate(seconds) if taken <= CLOSE * min(seconds)]
        for index in close if len(close) > 1 else ():
            seconds[index] = min(seconds[index], _try(method, index, draw))
    best = seconds.index(min(seconds))
    method.choose(best)
    return method.choices[best]


def _try(method: Method, index: int, draw: Draw) -> float:
    method.choose(index)
    return timed(method, draw).seconds


def synchronise() -> None:
    """Waits until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reason(error: BaseException) -> str:
    """Why something failed, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _attempt(work: Callable[[Method, Outcome], None], method: Method, outcome: Outcome) -> None:
    """Does ``work`` unless the method has failed, and writes down why if it does now."""
    if outcome.failure is None:
        try:
            work(method, outcome)
        except FAILURES as error:
            outcome.failure = reason(error)


def _repeat(method: Method, outcome: Outcome, *, draw: Draw) -> None:
    outcome.timed.append(timed(method, draw))


def _tune(method: Method, outcome: Outcome, *, draw: Draw) -> None:
    outcome.choice = tune(method, draw)
