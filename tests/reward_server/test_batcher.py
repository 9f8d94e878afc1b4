from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from reward_server.batcher import GROW_AFTER, MIN_BATCH_TOKENS, WARM_UP, Batcher, Computed
from reward_server.errors import DeadlineExceeded, DeviceFailed, DeviceOutOfMemory, Overloaded
from reward_server.planner import MAX_RETRY_AFTER_SECONDS
from reward_server.protocol import EngineName, ItemError
from reward_server.scorer import Call
from reward_server.tokens import Labels, TokenInput

pytestmark = pytest.mark.anyio

PATIENCE = 5.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeEngine:
    """The number of an input is the sum of its ids. Cleared, ``gate`` holds the device."""

    name: EngineName = "packed"

    def __init__(self, clock: Clock) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        self.error: BaseException | None = None
        self.warm_up_error: BaseException | None = None
        self.memory_tokens = 10**9
        self.poison: set[int] = set()
        self.seconds_per_batch = 0.0
        self._clock = clock

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        return list(range(len(inputs))), [len(item.ids) for item in inputs]

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        if list(inputs) == [WARM_UP]:
            if self.warm_up_error is not None:
                raise self.warm_up_error
            return [(0.0,)]
        self.batches.append([item.ids[0] for item in inputs])
        self.entered.set()
        assert self.gate.wait(timeout=30)
        self._clock.now += self.seconds_per_batch
        if self.error is not None:
            raise self.error
        is_too_large = sum(len(item.ids) for item in inputs) > self.memory_tokens
        if is_too_large or any(item.ids[0] in self.poison for item in inputs):
            raise DeviceOutOfMemory("the device is out of memory: 2 GiB")
        return [(float(sum(item.ids)),) for item in inputs]


def item(name: int, length: int = 1) -> TokenInput:
    """An input that can be told by its first id."""
    return TokenInput((name, *[0] * (length - 1)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(clock: Clock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
async def batcher(
    engine: FakeEngine, clock: Clock, failures: list[BaseException]
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        engine,
        max_batch_tokens=8,
        max_pending_tokens=40,
        patience_seconds=PATIENCE,
        stall_seconds=60.0,
        on_failure=failures.append,
        clock=clock,
    )
    batcher.start()
    yield batcher
    engine.gate.set()
    await batcher.aclose()


async def submit(batcher: Batcher, *inputs: TokenInput, **call: Any) -> asyncio.Task[Computed]:
    """A request that waits for the device: admitted when this returns."""
    task = asyncio.create_task(batcher.run(inputs, Call(**call)))
    await asyncio.sleep(0)
    return task


async def busy(batcher: Batcher, engine: FakeEngine) -> asyncio.Task[Computed]:
    """The request that the device computes, until the gate opens."""
    engine.gate.clear()
    engine.entered.clear()
    task = await submit(batcher, item(0))
    assert await asyncio.to_thread(engine.entered.wait, 30)
    return task


def numbers(computed: Computed) -> list[float]:
    return [outcome[0] for outcome in computed.outcomes if not isinstance(outcome, ItemError)]


async def test_an_idle_device_computes_at_once(batcher: Batcher, engine: FakeEngine) -> None:
    computed = await batcher.run([item(3, 2), item(4)], Call())
    assert computed.outcomes == [(3.0,), (4.0,)]
    assert computed.computed_tokens == 3
    assert engine.batches == [[3, 4]]
    assert batcher.pending_tokens == 0


async def test_nothing_to_compute_is_computed_at_once(batcher: Batcher) -> None:
    assert (await batcher.run([], Call())).outcomes == []
    assert (await batcher.run([item(1)], Call())).outcomes == [(1.0,)]


async def test_outcomes_come_in_the_order_of_the_request_whatever_the_engine_prefers(
    batcher: Batcher, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        order = list(range(len(inputs)))[::-1]
        return order, [len(inputs[index].ids) for index in order]

    monkeypatch.setattr(engine, "order", backwards)
    computed = await batcher.run([item(1, 6), item(2, 6), item(3, 6)], Call())
    assert computed.outcomes == [(1.0,), (2.0,), (3.0,)]
    assert engine.batches == [[3], [2], [1]]


async def test_the_next_batch_is_formed_while_the_device_is_busy(
    batcher: Batcher, engine: FakeEngine
) -> None:
    tasks = [await busy(batcher, engine)]
    tasks += [await submit(batcher, item(name)) for name in (1, 2, 3)]
    engine.gate.set()
    found = await asyncio.gather(*tasks)
    assert engine.batches == [[0], [1, 2, 3]]
    assert [numbers(each) for each in found] == [[0.0], [1.0], [2.0], [3.0]]
    assert batcher.tally.batches == 2


async def test_a_large_request_is_cut_and_shares_its_batches(
    batcher: Batcher, engine: FakeEngine
) -> None:
    first = await busy(batcher, engine)
    large = await submit(batcher, *[item(name, 3) for name in (1, 2, 3)])
    small = await submit(batcher, item(4, 3))
    engine.gate.set()
    await asyncio.gather(first, large, small)
    assert engine.batches == [[0], [1, 2], [3, 4]]
    assert numbers(large.result()) == [1.0, 2.0, 3.0]


async def test_interactive_work_goes_before_bulk_work(batcher: Batcher, engine: FakeEngine) -> None:
    first = await busy(batcher, engine)
    bulk = await submit(batcher, item(1, 8), lane="bulk")
    interactive = await submit(batcher, item(2, 8))
    engine.gate.set()
    await asyncio.gather(first, bulk, interactive)
    assert engine.batches == [[0], [2], [1]]


async def test_bulk_work_that_has_waited_gets_the_next_batch(
    batcher: Batcher, engine: FakeEngine, clock: Clock
) -> None:
    first = await busy(batcher, engine)
    bulk = await submit(batcher, item(1, 8), lane="bulk")
    interactive = await submit(batcher, item(2, 8))
    clock.now += PATIENCE
    engine.gate.set()
    await asyncio.gather(first, bulk, interactive)
    assert engine.batches == [[0], [1], [2]]


async def test_too_much_work_is_sent_away_as_a_whole(batcher: Batcher, engine: FakeEngine) -> None:
    first = await busy(batcher, engine)
    waiting = await submit(batcher, item(1, 30))
    with pytest.raises(Overloaded, match="31 tokens wait, 12 more would pass the limit 40") as sent:
        await batcher.run([item(2, 6), item(3, 6)], Call())
    assert sent.value.retry_after == 1  # nothing measured yet
    assert batcher.pending_tokens == 31
    engine.gate.set()
    await asyncio.gather(first, waiting)
    assert engine.batches == [[0], [1]]
    assert batcher.pending_tokens == 0


async def test_an_idle_device_takes_a_request_of_any_size(batcher: Batcher) -> None:
    computed = await batcher.run([item(1, 100)], Call())
    assert computed.computed_tokens == 100


async def test_a_refused_caller_is_told_when_to_come_back(
    batcher: Batcher, engine: FakeEngine
) -> None:
    engine.seconds_per_batch = 2.0
    await batcher.run([item(1, 8)], Call())  # four tokens a second
    engine.seconds_per_batch = 0.0
    first = await busy(batcher, engine)
    waiting = await submit(batcher, item(1, 39))
    with pytest.raises(Overloaded) as refused:
        await batcher.run([item(2, 20)], Call())
    assert refused.value.retry_after == 5
    engine.gate.set()
    await asyncio.gather(first, waiting)


async def test_the_wait_that_a_caller_is_told_has_a_bound(
    batcher: Batcher, engine: FakeEngine
) -> None:
    engine.seconds_per_batch = 1e6
    await batcher.run([item(1)], Call())
    first = await busy(batcher, engine)
    waiting = await submit(batcher, item(1, 39))
    with pytest.raises(Overloaded) as refused:
        await batcher.run([item(2)], Call())
    assert refused.value.retry_after == MAX_RETRY_AFTER_SECONDS
    engine.gate.set()
    await asyncio.gather(first, waiting)


async def test_the_time_of_a_request_is_its_wait_and_its_share_of_the_device(
    batcher: Batcher, engine: FakeEngine
) -> None:
    engine.seconds_per_batch = 4.0
    first = await busy(batcher, engine)
    tasks = [await submit(batcher, item(1, 6)), await submit(batcher, item(2, 2))]
    engine.gate.set()
    alone, long, short = await asyncio.gather(first, *tasks)
    assert (alone.wait_seconds, alone.forward_seconds) == (0.0, 4.0)
    assert (long.wait_seconds, long.forward_seconds) == (4.0, 3.0)
    assert (short.wait_seconds, short.forward_seconds) == (4.0, 1.0)
    assert (batcher.tally.tokens, batcher.tally.seconds) == (9, 8.0)


async def test_a_deadline_that_has_passed_costs_the_device_nothing(
    batcher: Batcher, engine: FakeEngine
) -> None:
    with pytest.raises(DeadlineExceeded):
        await batcher.run([item(1)], Call(deadline=time.monotonic()))
    assert numbers(await batcher.run([item(2)], Call())) == [2.0]
    assert engine.batches == [[2]]
    assert batcher.tally.dropped == 1


async def test_what_has_not_begun_at_its_deadline_is_not_computed(
    batcher: Batcher, engine: FakeEngine
) -> None:
    first = await busy(batcher, engine)
    late = await submit(batcher, item(1), deadline=time.monotonic() + 0.01)
    with pytest.raises(DeadlineExceeded, match="the deadline passed"):
        await late
    assert batcher.pending_tokens == 1
    engine.gate.set()
    await first
    await batcher.run([item(2)], Call())
    assert engine.batches == [[0], [2]]
    assert batcher.tally.dropped == 1


async def test_a_deadline_that_holds_changes_nothing(batcher: Batcher) -> None:
    computed = await batcher.run([item(1)], Call(deadline=time.monotonic() + 600))
    assert numbers(computed) == [1.0]
    assert batcher.tally.dropped == 0


async def test_a_request_whose_caller_has_left_is_not_computed(
    batcher: Batcher, engine: FakeEngine
) -> None:
    first = await busy(batcher, engine)
    left = await submit(batcher, item(1))
    last = await submit(batcher, item(2))
    left.cancel()
    await asyncio.wait([left])
    engine.gate.set()
    await asyncio.gather(first, last)
    assert engine.batches == [[0], [2]]
    assert batcher.pending_tokens == 0
    assert batcher.tally.dropped == 1


async def test_a_caller_may_leave_while_its_batch_is_computed(
    batcher: Batcher, engine: FakeEngine
) -> None:
    engine.gate.clear()
    left = await submit(batcher, item(1, 8), item(2, 8))
    assert await asyncio.to_thread(engine.entered.wait, 30)
    left.cancel()
    await asyncio.wait([left])
    assert left.cancelled()
    engine.gate.set()
    assert numbers(await batcher.run([item(3)], Call())) == [3.0]
    assert engine.batches == [[1], [3]]
    assert batcher.pending_tokens == 0
    assert batcher.is_ready


async def test_a_batch_that_does_not_fit_is_halved_until_it_does(clock: Clock) -> None:
    engine = FakeEngine(clock)
    engine.memory_tokens = 250
    batcher = Batcher(engine, max_batch_tokens=800, max_pending_tokens=10_000, clock=clock)
    batcher.start()
    inputs = [item(name, 100) for name in range(1, 9)]
    computed = await batcher.run(inputs, Call())
    assert numbers(computed) == [float(name) for name in range(1, 9)]
    assert [len(batch) for batch in engine.batches] == [8, 4, 2, 2, 4, 2, 2]
    assert batcher.tally.out_of_memory == 3
    engine.batches.clear()
    await batcher.run(inputs, Call())
    assert batcher.batch_tokens == 200
    assert [len(batch) for batch in engine.batches] == [2, 2, 2, 2]
    await batcher.aclose()


async def test_the_budget_does_not_shrink_for_ever(clock: Clock) -> None:
    engine = FakeEngine(clock)
    engine.memory_tokens = 1
    batcher = Batcher(engine, max_batch_tokens=80, max_pending_tokens=10_000, clock=clock)
    batcher.start()
    computed = await batcher.run([item(name) for name in range(1, 41)], Call())
    assert len(numbers(computed)) == 40
    assert batcher.batch_tokens == MIN_BATCH_TOKENS
    await batcher.aclose()


async def test_a_shrunken_budget_grows_back_with_full_batches_that_fit(clock: Clock) -> None:
    engine = FakeEngine(clock)
    engine.memory_tokens = 250
    batcher = Batcher(engine, max_batch_tokens=400, max_pending_tokens=10_000, clock=clock)
    batcher.start()
    await batcher.run([item(name, 100) for name in range(4)], Call())
    assert batcher.batch_tokens == 200
    engine.memory_tokens = 10_000
    budgets = []
    for _ in range(4 * GROW_AFTER):
        await batcher.run([item(1, 1)], Call())  # not full, and so no evidence
        await batcher.run([item(1, batcher.batch_tokens)], Call())
        budgets.append(batcher.batch_tokens)
    assert sorted(set(budgets)) == [200, 250, 312, 390, 400]
    assert budgets == sorted(budgets)
    await batcher.aclose()


async def test_an_input_that_does_not_fit_alone_gets_an_error_of_its_own(
    batcher: Batcher, engine: FakeEngine
) -> None:
    engine.poison = {2}
    computed = await batcher.run([item(name) for name in (1, 2, 3, 4)], Call())
    error = ItemError(code="out_of_memory", detail="the device is out of memory: 2 GiB")
    assert computed.outcomes == [(1.0,), error, (3.0,), (4.0,)]
    assert batcher.batch_tokens == 8  # it is no measure of what fits
    assert batcher.pending_tokens == 0
    assert numbers(await batcher.run([item(5)], Call())) == [5.0]


async def test_a_dead_engine_fails_all_who_wait(
    batcher: Batcher, engine: FakeEngine, failures: list[BaseException]
) -> None:
    tasks = [await busy(batcher, engine)]
    tasks += [await submit(batcher, item(name)) for name in (1, 2)]
    engine.error = RuntimeError("the device is gone")
    engine.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeviceFailed] * 3
    assert engine.batches == [[0]]
    with pytest.raises(DeviceFailed, match="not running"):
        await batcher.run([item(3)], Call())
    await batcher.aclose()
    assert not batcher.is_ready
    assert failures == [engine.error]
    assert batcher.tally.dropped == 0  # nobody left


async def test_an_engine_that_cannot_warm_up_is_dead(clock: Clock) -> None:
    engine, failed = FakeEngine(clock), threading.Event()
    engine.warm_up_error = DeviceOutOfMemory("no room at all")
    batcher = Batcher(
        engine, max_batch_tokens=8, max_pending_tokens=8, on_failure=lambda error: failed.set()
    )
    batcher.start()
    assert await asyncio.to_thread(failed.wait, 30)
    assert not batcher.is_ready
    with pytest.raises(DeviceFailed):
        await batcher.run([item(1)], Call())
    await batcher.aclose()


async def test_closing_finishes_what_was_admitted_and_refuses_the_rest(
    batcher: Batcher, engine: FakeEngine
) -> None:
    tasks = [await busy(batcher, engine)]
    tasks += [await submit(batcher, item(name, 8)) for name in (1, 2)]
    closing = asyncio.create_task(batcher.aclose())
    await asyncio.sleep(0)
    assert not batcher.is_ready
    with pytest.raises(DeviceFailed):
        await batcher.run([item(3)], Call())
    engine.gate.set()
    found = await asyncio.gather(*tasks)
    assert [numbers(each) for each in found] == [[0.0], [1.0], [2.0]]
    await closing
    await batcher.aclose()


async def test_a_batcher_that_was_never_started_closes_and_computes_nothing(clock: Clock) -> None:
    batcher = Batcher(FakeEngine(clock), max_batch_tokens=8, max_pending_tokens=8)
    assert not batcher.is_ready
    with pytest.raises(DeviceFailed):
        await batcher.run([item(1)], Call())
    await batcher.aclose()


async def test_a_stalled_batch_makes_unready_until_it_ends(
    batcher: Batcher, engine: FakeEngine, clock: Clock
) -> None:
    first = await busy(batcher, engine)
    is_ready = [batcher.is_ready]
    clock.now += 61.0
    is_ready.append(batcher.is_ready)
    engine.gate.set()
    await first
    assert [*is_ready, batcher.is_ready] == [True, False, True]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_callers_do_every_input_is_computed_once_or_not_at_all(
    seed: int, clock: Clock
) -> None:
    chance = random.Random(seed)
    engine = FakeEngine(clock)
    batcher = Batcher(engine, max_batch_tokens=64, max_pending_tokens=10**6, clock=clock)
    batcher.start()
    names = iter(range(1, 10_000))
    asked: list[list[TokenInput]] = []
    tasks: list[asyncio.Task[Computed]] = []
    for _ in range(200):
        asked.append(
            [item(next(names), chance.randint(1, 30)) for _ in range(chance.randint(1, 6))]
        )
        tasks.append(await submit(batcher, *asked[-1], lane=chance.choice(["interactive", "bulk"])))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    computed = [name for batch in engine.batches for name in batch]
    assert len(set(computed)) == len(computed)
    answered = 0
    for inputs, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, asyncio.CancelledError)
            continue
        answered += 1
        assert numbers(outcome) == [float(each.ids[0]) for each in inputs]
        assert {each.ids[0] for each in inputs} <= set(computed)
    assert 0 < answered < 200
    await batcher.aclose()  # what a caller left on the device is still computed
    assert batcher.pending_tokens == 0
