"""The way to the device: bounded admission, and a thread that forms batches and has them computed.

Invariants:

- the next batch is formed when the device becomes free: no timer, so an idle server waits for
  nothing and a busy one fills its batches;
- an admitted request always gets an answer: its numbers, a typed error in the place of single
  inputs, ``DeadlineExceeded``, or ``DeviceFailed`` once the engine raised something unforeseen.
  From then on nothing is admitted;
- out of memory is foreseen: the batch is halved until it fits, the budget shrinks to what fitted
  and grows back slowly, and an input that does not fit alone gets an error of its own;
- what nobody waits for any more is not computed.

Knows nothing of HTTP, text or rewards. :meth:`Batcher.run` is called on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from reward_server.errors import DeadlineExceeded, DeviceFailed, DeviceOutOfMemory, Overloaded
from reward_server.planner import LEAST_FILLED, Item, Job, Planner, Taken, seconds_until_room
from reward_server.protocol import EngineName, ItemError
from reward_server.scorer import Call
from reward_server.tokens import Labels, TokenInput

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

WARM_UP = TokenInput(ids=(0,) * 8)
"""What a new thread computes before it takes requests."""

MIN_BATCH_TOKENS = 64
"""Below this the budget of a batch does not shrink."""

GROW_AFTER = 100
"""Full batches without a lack of memory after which a shrunken budget grows by a quarter."""

ORDERED_AT_ONCE = 32_768
"""Tokens of a request that are put in order on the event loop; more take a thread, since they take
longer than other requests should wait."""

_TOO_LATE = "the deadline passed before the rewards were computed"


class Engine(Protocol):
    """Computes batches. ``forward`` is called from one thread."""

    @property
    def name(self) -> EngineName: ...

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        """The order in which inputs should be batched, and the tokens that each then adds."""
        ...

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        """The head's numbers of each input.

        Raises:
            DeviceOutOfMemory: if the batch is too large; a smaller one may be tried.
        """
        ...


@dataclass(frozen=True, slots=True)
class Computed:
    """What came of the inputs of one request."""

    outcomes: list[Labels | ItemError]
    computed_tokens: int
    wait_seconds: float
    """From admission to the first batch."""

    forward_seconds: float
    """Time of the batches that held its inputs, each by its share of tokens."""


@dataclass(slots=True)
class Tally:
    """What a batcher has done since it started."""

    batches: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """From a batch's forming to its numbers, its turn on the device included."""

    out_of_memory: int = 0
    dropped: int = 0
    """Requests whose caller left, or whose deadline passed, before all was computed."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """One admitted request."""

    inputs: Sequence[TokenInput]
    outcomes: list[Labels | ItemError | None]
    admitted_at: float
    future: Future[Computed] = field(default_factory=Future)
    started_at: float | None = None
    open_inputs: int = 0
    computed_tokens: int = 0
    forward_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Member:
    """One input of a batch, and the request that it belongs to."""

    taken: Taken
    waiting: _Waiting

    @property
    def input(self) -> TokenInput:
        return self.waiting.inputs[self.taken.item.index]


@dataclass(slots=True)
class _Speed:
    """Tokens a second over the last ten batches or so."""

    tokens: float = 0.0
    seconds: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self.tokens = 0.9 * self.tokens + tokens
        self.seconds = 0.9 * self.seconds + seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Budget:
    """Tokens of one batch: what fitted after a lack of memory, and slowly what was meant again."""

    meant: int
    tokens: int
    full_batches: int = 0
    """In a row, since it changed."""

    def shrink(self, tokens: int) -> None:
        self.tokens = max(min(self.tokens, tokens), MIN_BATCH_TOKENS)
        self.full_batches = 0

    def fitted(self, tokens: int) -> None:
        if self.tokens >= self.meant or tokens < LEAST_FILLED * self.tokens:
            return
        self.full_batches += 1
        if self.full_batches == GROW_AFTER:
            self.tokens = min(self.meant, self.tokens * 5 // 4)
            self.full_batches = 0


class Batcher:
    """Feeds an engine from a thread of its own, between :meth:`start` and :meth:`aclose`.

    Args:
        engine: called from the thread only, but for ``order``.
        max_batch_tokens: budget of one batch.
        max_pending_tokens: what may wait and run together; an idle device takes any request.
        patience_seconds: how long bulk work waits at most for its next batch.
        stall_seconds: a batch that takes longer makes the batcher unready.
        on_failure: called once, from the thread, if the engine breaks.
    """

    def __init__(  # noqa: PLR0913  # settings and seams of one object
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_pending_tokens: int,
        patience_seconds: float = 2.0,
        stall_seconds: float = 300.0,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.tally = Tally()
        self._budget = _Budget(max_batch_tokens, max_batch_tokens)
        self._planner: Planner = Planner(max_pending_tokens, patience_seconds)
        self._stall_seconds = stall_seconds
        self._on_failure = on_failure
        self._clock = clock
        self._waiting: dict[Job, _Waiting] = {}
        self._speed = _Speed()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._batch_since: float | None = None
        self._failure: BaseException | None = None
        self._is_closed = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def aclose(self) -> None:
        """Refuses new work, finishes what was admitted and ends the thread.

        A batch that hangs is abandoned after ``stall_seconds``.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, self._stall_seconds)
            if self._thread.is_alive():
                log.error("batcher.abandoned", seconds=self._stall_seconds)

    @property
    def is_ready(self) -> bool:
        """Whether a request would be computed."""
        since = self._batch_since
        is_stalled = since is not None and self._clock() - since > self._stall_seconds
        return (
            self._thread.is_alive()
            and not self._is_closed
            and self._failure is None
            and not is_stalled
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch at most, for now."""
        return self._budget.tokens

    @property
    def pending_tokens(self) -> int:
        """Tokens admitted and not yet computed."""
        return self._planner.pending_tokens

    async def run(self, inputs: Sequence[TokenInput], call: Call) -> Computed:
        """Waits for the device and computes ``inputs``.

        Raises:
            Overloaded: if too much work waits; says when to come back.
            DeadlineExceeded: if the call's deadline passes before that.
            DeviceFailed: if the thread is not running, or dies before the answer.
        """
        if not inputs:
            return Computed([], computed_tokens=0, wait_seconds=0.0, forward_seconds=0.0)
        order, costs = await self._order(inputs)
        left = None if call.deadline == math.inf else call.deadline - time.monotonic()
        if left is not None and left <= 0:
            self.tally.dropped += 1
            raise DeadlineExceeded(_TOO_LATE)
        items = (
            Item(index, marginal=cost, full=len(inputs[index].ids))
            for index, cost in zip(order, costs, strict=True)
        )
        job = Job.of(items, lane=call.lane)
        waiting = self._admit(job, inputs)
        try:
            async with asyncio.timeout(left):
                return await asyncio.wrap_future(waiting.future)
        except TimeoutError:
            raise DeadlineExceeded(_TOO_LATE) from None
        finally:
            self._forget(job)

    async def _order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        if sum(len(item.ids) for item in inputs) <= ORDERED_AT_ONCE:
            return self.engine.order(inputs)
        return await asyncio.to_thread(self.engine.order, inputs)

    def _admit(self, job: Job, inputs: Sequence[TokenInput]) -> _Waiting:
        now = self._clock()
        waiting = _Waiting(inputs, [None] * len(inputs), now, open_inputs=len(inputs))
        with self._changed:
            if self._is_closed or self._failure is not None or not self._thread.is_alive():
                raise DeviceFailed("the batcher is not running; the server is going down")
            wanted = job.waiting_tokens
            if not self._planner.admit(job, now=now):
                raise self._refusal(wanted)
            # Running from the start: a caller that leaves must not cancel what the thread will set.
            waiting.future.set_running_or_notify_cancel()
            self._waiting[job] = waiting
            self._changed.notify()
        return waiting

    def check_room(self, tokens: int) -> None:
        """Refuses what would not be admitted now.

        Raises:
            Overloaded: if so many tokens find no room.
        """
        pending = self._planner.pending_tokens
        if pending and pending + tokens > self._planner.max_pending_tokens:
            raise self._refusal(tokens)

    def _refusal(self, wanted: int) -> Overloaded:
        pending, limit = self._planner.pending_tokens, self._planner.max_pending_tokens
        speed = self._speed.tokens_per_second
        return Overloaded(
            f"{pending} tokens wait, {wanted} more would pass the limit {limit}; come back later",
            retry_after=seconds_until_room(pending, wanted, limit, tokens_per_second=speed),
        )

    def _forget(self, job: Job) -> None:
        with self._changed:
            if self._waiting.pop(job, None) is not None:
                self._planner.drop(job)
                self.tally.dropped += 1

    def _work(self) -> None:
        try:
            # The first forward pass of a thread is slow: better now than at the first request.
            self.engine.forward([WARM_UP])
            while batch := self._next_batch():
                self._compute(batch)
        except BaseException as error:  # whatever it is, nobody may be left waiting
            self._die(error)

    def _next_batch(self) -> list[_Member]:
        with self._changed:
            while True:
                if batch := self._planner.take(self.batch_tokens, now=self._clock()):
                    return [_Member(taken, self._waiting[taken.job]) for taken in batch]
                if self._is_closed:
                    return []
                self._changed.wait()

    def _compute(self, batch: list[_Member]) -> None:
        started = self._clock()
        self._batch_since = started
        for member in batch:
            if member.waiting.started_at is None:
                member.waiting.started_at = started
        tokens = sum(member.taken.cost for member in batch)
        outcomes = self._forward([member.input for member in batch], tokens=tokens)
        self._batch_since = None
        seconds = self._clock() - started
        self._speed.add(tokens, seconds)
        with self._changed:
            self.tally.batches += 1
            self.tally.tokens += tokens
            self.tally.seconds += seconds
            for member, outcome in zip(batch, outcomes, strict=True):
                member.waiting.forward_seconds += seconds * member.taken.cost / tokens
                self._settle(member, outcome)

    def _settle(self, member: _Member, outcome: Labels | ItemError) -> None:
        taken, waiting = member.taken, member.waiting
        self._planner.finish(taken)
        waiting.outcomes[taken.item.index] = outcome
        waiting.computed_tokens += taken.cost
        waiting.open_inputs -= 1
        if waiting.open_inputs == 0 and self._waiting.pop(taken.job, None) is not None:
            waiting.future.set_result(_computed(waiting))

    def _forward(self, inputs: Sequence[TokenInput], *, tokens: int) -> list[Labels | ItemError]:
        try:
            outcomes: list[Labels | ItemError] = [*self.engine.forward(inputs)]
        except DeviceOutOfMemory as error:
            self.tally.out_of_memory += 1
            log.warning("batch.out_of_memory", inputs=len(inputs), tokens=tokens)
            if len(inputs) == 1:
                return [ItemError(code="out_of_memory", detail=str(error))]
        else:
            self._budget.fitted(tokens)
            return outcomes
        middle = len(inputs) // 2
        halves = [
            *self._forward(inputs[:middle], tokens=tokens // 2),
            *self._forward(inputs[middle:], tokens=tokens // 2),
        ]
        # A poisonous input would not fit into any budget; only an honest batch tells of one.
        if not any(isinstance(outcome, ItemError) for outcome in halves):
            self._budget.shrink(tokens // 2)
        return halves

    def _die(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._planner.clear()
            for waiting in self._waiting.values():
                waiting.future.set_exception(DeviceFailed("the device failed; see the log"))
            self._waiting.clear()
        self._on_failure(error)


def _computed(waiting: _Waiting) -> Computed:
    outcomes = [outcome for outcome in waiting.outcomes if outcome is not None]
    assert len(outcomes) == len(waiting.inputs)
    assert waiting.started_at is not None
    return Computed(
        outcomes=outcomes,
        computed_tokens=waiting.computed_tokens,
        wait_seconds=waiting.started_at - waiting.admitted_at,
        forward_seconds=waiting.forward_seconds,
    )
