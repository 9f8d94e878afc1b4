"""What goes into the next batch, and what may wait at all: pure, without threads or clocks.

Promises, each held by a property test:

- a batch stays within its token budget, except that a larger single input makes a batch alone;
- where a job goes on in the next batch, the cut repeats as little of a shared prefix as can be had
  without leaving a quarter of the budget unused;
- every admitted input is taken exactly once, or its job is dropped as a whole;
- inputs of a job are taken in their planned order, jobs of a lane first come, first served;
- interactive work goes before bulk work, but bulk work that has waited ``patience`` seconds since
  it was last served gets the next batch.

Knows nothing of what an input is: only its cost in tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reward_server.protocol import Lane

MAX_RETRY_AFTER_SECONDS = 60
"""Longest wait that a refused caller is told; an estimate reaches no further."""


LEAST_FILLED = 0.75
"""How much of its budget a batch uses at least before it may end for a better cut."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a job, by its index."""

    index: int
    marginal: int
    """Tokens that it adds to a batch behind the item before it."""

    full: int
    """Tokens that it adds to a batch without that item."""

    @property
    def shared(self) -> int:
        """Tokens that are computed again if it does not stand behind that item."""
        return self.full - self.marginal


@dataclass(eq=False, slots=True)
class Job:
    """The inputs of one request that are not yet taken, in the order to take them."""

    items: deque[Item]
    lane: Lane = "interactive"
    admitted_at: float = 0.0

    @classmethod
    def of(cls, items: Iterable[Item], *, lane: Lane = "interactive") -> Job:
        """A job of ``items``, first come first taken."""
        return cls(deque(items), lane)

    @property
    def waiting_tokens(self) -> int:
        """Tokens of what is not yet taken."""
        return sum(item.marginal for item in self.items)


@dataclass(frozen=True, slots=True)
class Taken:
    """One input of a batch."""

    job: Job
    item: Item
    cost: int
    """Tokens that it adds to this batch."""


@dataclass(slots=True)
class Planner:
    """Jobs that wait, by lane."""

    max_pending_tokens: int
    patience: float
    pending_tokens: int = 0
    """Tokens admitted and not yet computed, those on the device included."""

    _lanes: dict[Lane, deque[Job]] = field(
        default_factory=lambda: {"interactive": deque(), "bulk": deque()}
    )
    _bulk_served_at: float = -math.inf

    def admit(self, job: Job, *, now: float) -> bool:
        """Takes the whole job in, or refuses it; an idle server takes a job of any size."""
        wanted = job.waiting_tokens
        if self.pending_tokens and self.pending_tokens + wanted > self.max_pending_tokens:
            return False
        job.admitted_at = now
        self.pending_tokens += wanted
        if job.items:
            self._lanes[job.lane].append(job)
        return True

    def take(self, budget: int, *, now: float) -> list[Taken]:
        """Inputs of the next batch; empty if nothing waits."""
        batch: list[Taken] = []
        for lane in self._turns(now):
            taken = self._take_from(self._lanes[lane], budget, is_first=not batch)
            budget -= sum(each.cost for each in taken)
            batch += taken
            # What is left of the lane goes first in the next batch; filling up would delay it.
            if self._lanes[lane]:
                budget = 0
            if lane == "bulk" and taken:
                self._bulk_served_at = now
        return batch

    def _take_from(self, jobs: deque[Job], budget: int, *, is_first: bool) -> list[Taken]:
        batch: list[Taken] = []
        left = budget
        while jobs:
            job = jobs[0]
            item = job.items[0]
            cost = item.marginal if batch and batch[-1].job is job else item.full
            if cost > left and (batch or not is_first):
                break
            batch.append(Taken(job, job.items.popleft(), cost))
            left -= cost
            if not job.items:
                jobs.popleft()
        if not (batch and jobs and jobs[0] is batch[-1].job):
            return batch
        end = best_end(batch, jobs[0].items[0], least=LEAST_FILLED * budget)
        _give_back(batch[end:], jobs)
        return batch[:end]

    def finish(self, taken: Taken) -> None:
        """Frees the room of an input that was computed."""
        self.pending_tokens -= taken.item.marginal

    def drop(self, job: Job) -> None:
        """Forgets what of ``job`` is not yet taken; nothing if all is."""
        if job in self._lanes[job.lane]:
            self._lanes[job.lane].remove(job)
        self.pending_tokens -= job.waiting_tokens
        job.items.clear()

    def clear(self) -> None:
        """Forgets all jobs that wait."""
        for job in [job for jobs in self._lanes.values() for job in jobs]:
            self.drop(job)

    def _turns(self, now: float) -> tuple[Lane, Lane]:
        bulk = self._lanes["bulk"]
        if bulk and now - max(bulk[0].admitted_at, self._bulk_served_at) >= self.patience:
            return "bulk", "interactive"
        return "interactive", "bulk"


def best_end(batch: Sequence[Taken], following: Item, *, least: float) -> int:
    """How many inputs of a batch to keep so that the next one repeats as little as possible.

    Args:
        batch: what would fit.
        following: the first input that does not, of the same job as the last one that does.
        least: tokens that the batch must keep.

    Returns:
        The largest of the best numbers; all if nothing is gained.
    """
    end, repeated, tokens = len(batch), following.shared, sum(each.cost for each in batch)
    for place in range(len(batch) - 1, 0, -1):
        tokens -= batch[place].cost
        if tokens < least or not repeated:
            break
        is_behind = batch[place].job is batch[place - 1].job
        again = batch[place].item.shared if is_behind else 0
        if again < repeated:
            end, repeated = place, again
    return end


def _give_back(taken: Sequence[Taken], jobs: deque[Job]) -> None:
    for each in reversed(taken):
        if not jobs or jobs[0] is not each.job:
            jobs.appendleft(each.job)
        each.job.items.appendleft(each.item)


def seconds_until_room(
    pending_tokens: int, wanted_tokens: int, max_pending_tokens: int, *, tokens_per_second: float
) -> int:
    """Whole seconds after which a refused job would find room, at the measured speed.

    At least 1, at most :data:`MAX_RETRY_AFTER_SECONDS`; 1 where no speed is known yet. A job larger
    than the whole queue finds room when the server is idle.
    """
    if not tokens_per_second:
        return 1
    room = max(max_pending_tokens - wanted_tokens, 0)
    seconds = (pending_tokens - room) / tokens_per_second
    return math.ceil(min(max(seconds, 1), MAX_RETRY_AFTER_SECONDS))
