"""The way to the device: bounded admission and one thread that owns the scorer.

Invariants:

- at most ``max_pending`` candidates wait or run, except that an idle device takes any request;
- requests run in the order of admission, one at a time, whole;
- an admitted request always gets an answer: its rewards, its own error, or ``DeviceFailed`` once
  the scorer raised something that is no ``RewardServerError``. From then on nothing is admitted;
- a request whose caller has left before its turn is not computed.

Knows nothing of HTTP or tokens. Methods are called on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from reward_server.errors import DeviceFailed, Overloaded, RewardServerError
from reward_server.protocol import OnOverflow, ScoreGroup
from reward_server.scorer import Scored, Scorer

MAX_RETRY_AFTER_SECONDS = 60
"""Longest wait that a refused caller is told; an estimate reaches no further."""


@dataclass(frozen=True, slots=True)
class Job:
    """One admitted request."""

    groups: Sequence[ScoreGroup]
    on_overflow: OnOverflow
    future: Future[Scored] = field(default_factory=Future)

    @property
    def candidates(self) -> int:
        return sum(len(group.candidates) for group in self.groups)


class DeviceThread:
    """Runs a scorer on a thread of its own, between :meth:`start` and :meth:`aclose`."""

    def __init__(
        self,
        scorer: Scorer,
        *,
        max_pending: int,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scorer = scorer
        self._max_pending = max_pending
        self._on_failure = on_failure
        self._clock = clock
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._failure: BaseException | None = None
        self._is_closed = False
        self._candidates_per_second = 0.0
        self.pending = 0
        """Candidates admitted and not yet answered."""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    async def aclose(self) -> None:
        """Refuses new work, finishes what was admitted and ends the thread."""
        with self._lock:
            self._is_closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered."""
        return self._thread.is_alive() and not self._is_closed and self._failure is None

    async def score(self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow) -> Scored:
        """Waits for the device and scores ``groups``.

        Raises:
            Overloaded: if too much work waits; says when to come back.
            DeviceFailed: if the thread is not running, or dies before the answer.
            RewardServerError: what the scorer raised for this request.
        """
        job = Job(groups, on_overflow)
        self._admit(job)
        self.pending += job.candidates
        try:
            return await asyncio.wrap_future(self._submit(job))
        finally:
            self.pending -= job.candidates

    def _admit(self, job: Job) -> None:
        if self.pending and self.pending + job.candidates > self._max_pending:
            raise Overloaded(
                f"{self.pending} candidates wait, limit {self._max_pending}; come back later",
                retry_after=self._seconds_until_drained(),
            )

    def _seconds_until_drained(self) -> int:
        if not self._candidates_per_second:
            return 1
        seconds = math.ceil(self.pending / self._candidates_per_second)
        return min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS)

    def _submit(self, job: Job) -> Future[Scored]:
        with self._lock:
            if not self.is_ready:
                raise DeviceFailed("the device thread is not running; the server is going down")
            self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            started = self._clock()
            try:
                scored = self._scorer.score(job.groups, on_overflow=job.on_overflow)
            except RewardServerError as error:
                job.future.set_exception(error)
            except BaseException as error:  # whatever it is, nobody may be left waiting
                self._die(job, error)
                return
            else:
                self._candidates_per_second = job.candidates / max(self._clock() - started, 1e-6)
                job.future.set_result(scored)

    def _die(self, job: Job, error: BaseException) -> None:
        with self._lock:
            self._failure = error
        for waiting in [job, *self._drain()]:
            if waiting is job or waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(DeviceFailed("the device thread died; see the log"))
        self._on_failure(error)

    def _drain(self) -> list[Job]:
        jobs: list[Job] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs
            if job is not None:
                jobs.append(job)
