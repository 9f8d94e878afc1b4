from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from reward_server.device import MAX_RETRY_AFTER_SECONDS, DeviceThread
from reward_server.errors import CandidateTooLong, DeviceFailed, Overloaded
from reward_server.scorer import Scored
from tests.reward_server.tiny import FakeScorer, group

pytestmark = pytest.mark.anyio


class Ticking:
    """A clock on which every look takes ``step`` seconds."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
async def device(scorer: FakeScorer) -> AsyncIterator[DeviceThread]:
    device = DeviceThread(scorer, max_pending=4, clock=Ticking(step=2.0))
    device.start()
    yield device
    scorer.gate.set()
    await device.aclose()


async def submit(device: DeviceThread, name: str, *candidates: str) -> asyncio.Task[Scored]:
    """A request that waits on the device: admitted when this returns."""
    task = asyncio.create_task(device.score([group(name, *candidates)], on_overflow="error"))
    await asyncio.sleep(0)
    return task


async def test_requests_run_one_at_a_time_in_their_order(
    device: DeviceThread, scorer: FakeScorer
) -> None:
    tasks = [await submit(device, name, "x") for name in "abc"]
    scored = await asyncio.gather(*tasks)
    assert [answer.groups[0].id for answer in scored] == ["a", "b", "c"]
    assert scorer.calls == [["a"], ["b"], ["c"]]
    assert device.pending == 0


async def test_too_much_work_is_sent_away(device: DeviceThread, scorer: FakeScorer) -> None:
    scorer.gate.clear()
    waiting = await submit(device, "a", "x", "y", "z")
    with pytest.raises(Overloaded, match="3 candidates wait, limit 4") as refused:
        await device.score([group("b", "x", "y")], on_overflow="error")
    assert refused.value.retry_after == 1  # nothing measured yet
    assert device.pending == 3
    scorer.gate.set()
    await waiting


async def test_a_refused_caller_is_told_when_to_come_back(
    device: DeviceThread, scorer: FakeScorer
) -> None:
    await device.score([group("a", "x")], on_overflow="error")  # one candidate in two seconds
    scorer.gate.clear()
    waiting = await submit(device, "b", "x", "y", "z", "w")
    with pytest.raises(Overloaded) as refused:
        await device.score([group("c", "x")], on_overflow="error")
    assert refused.value.retry_after == 8
    scorer.gate.set()
    await waiting


async def test_the_wait_that_a_caller_is_told_has_a_bound(scorer: FakeScorer) -> None:
    device = DeviceThread(scorer, max_pending=1, clock=Ticking(step=1000.0))
    device.start()
    await device.score([group("a", "x")], on_overflow="error")
    scorer.gate.clear()
    waiting = await submit(device, "b", "x")
    with pytest.raises(Overloaded) as refused:
        await device.score([group("c", "x")], on_overflow="error")
    assert refused.value.retry_after == MAX_RETRY_AFTER_SECONDS
    scorer.gate.set()
    await waiting
    await device.aclose()


async def test_an_idle_device_takes_a_request_of_any_size(device: DeviceThread) -> None:
    scored = await device.score([group("a", *"vwxyz")], on_overflow="error")
    assert len(scored.groups[0].results) == 5


async def test_a_refused_request_does_not_harm_the_next(
    device: DeviceThread, scorer: FakeScorer
) -> None:
    scorer.error = CandidateTooLong("too long")
    with pytest.raises(CandidateTooLong):
        await device.score([group()], on_overflow="error")
    scorer.error = None
    await device.score([group()], on_overflow="error")
    assert device.is_ready


async def test_a_dead_thread_fails_all_who_wait(scorer: FakeScorer) -> None:
    failures: list[BaseException] = []
    device = DeviceThread(scorer, max_pending=9, on_failure=failures.append)
    device.start()
    scorer.gate.clear()
    tasks = [await submit(device, name, "x") for name in "abc"]
    scorer.error = RuntimeError("the device is gone")
    scorer.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeviceFailed] * 3
    assert scorer.calls == [["a"]]
    assert not device.is_ready
    with pytest.raises(DeviceFailed):
        await device.score([group()], on_overflow="error")
    await device.aclose()
    assert failures == [scorer.error]


async def test_a_request_whose_caller_has_left_is_not_computed(
    device: DeviceThread, scorer: FakeScorer
) -> None:
    scorer.gate.clear()
    first = await submit(device, "a", "x")
    left = await submit(device, "b", "x")
    last = await submit(device, "c", "x")
    left.cancel()
    await asyncio.wait([left])
    scorer.gate.set()
    await asyncio.gather(first, last)
    assert scorer.calls == [["a"], ["c"]]
    assert device.pending == 0


async def test_closing_answers_what_was_admitted_and_refuses_the_rest(scorer: FakeScorer) -> None:
    device = DeviceThread(scorer, max_pending=9)
    device.start()
    scorer.gate.clear()
    admitted = [await submit(device, name, "x") for name in "ab"]
    closing = asyncio.create_task(device.aclose())
    await asyncio.sleep(0)
    with pytest.raises(DeviceFailed):
        await device.score([group()], on_overflow="error")
    scorer.gate.set()
    assert len(await asyncio.gather(*admitted)) == 2
    await closing
    assert not device.is_ready
