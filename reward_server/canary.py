"""Groups whose rewards are known, scored again and again: does the model still say the same?

A canary is made once, by whoever trusts the server at that moment. A difference later is a changed
driver, kernel, batch layout or weight file, seen before a policy learns from it. A watch scores the
canary on the bulk lane in every interval and holds what came of it. It skips when the server has no
room, and whatever goes wrong stays inside it; readiness, metrics and logs are for its owner.

Rewards from a cache prove nothing: a watch needs a ``score`` that computes. Imports no torch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import Field, FiniteFloat, model_validator

from reward_server.calibration import Artefact, CalibrationError
from reward_server.errors import DeadlineExceeded, Draining, Overloaded
from reward_server.protocol import CandidateResult, DType, GroupResult, ScoreGroup
from reward_server.scorer import Call, Scored

FULL_PRECISION_TOLERANCE = 1e-3
"""Ten times what two layouts of one float32 input may differ by."""

OTHER_TOLERANCE = 0.1
"""For half precision, where a reward moves with its batch, and for kinds without a precision: a
choice, below the margins that a pair is worth training on for."""

SKIPPED = (Overloaded, DeadlineExceeded, Draining)
"""The server has better things to do than the canary; nothing is wrong with its rewards."""

Score = Callable[[Sequence[ScoreGroup], Call], Awaitable[Scored]]
"""The shape of ``Scorer.score``."""


class Canary(Artefact):
    """Groups and the rewards that they had."""

    kind: ClassVar[str] = "canary"

    groups: tuple[ScoreGroup, ...] = Field(min_length=1)

    rewards: tuple[tuple[FiniteFloat, ...], ...]
    """Rewards of the candidates, group by group."""

    tolerance: FiniteFloat = Field(ge=0)
    """Largest difference of a reward that is no alarm."""

    @model_validator(mode="after")
    def _has_one_reward_a_candidate(self) -> Self:
        if [len(group.candidates) for group in self.groups] != list(map(len, self.rewards)):
            raise ValueError("rewards: there is not one for each candidate of each group")
        return self

    @property
    def candidates(self) -> int:
        """Candidates in all groups together."""
        return sum(map(len, self.rewards))


@dataclass(frozen=True, slots=True)
class CanaryOutcome:
    """What came of scoring a canary once."""

    max_abs_diff: float | None
    """Largest difference of a reward to the one it had; ``None`` where there is no reward."""

    is_exact: bool
    """Whether every reward is the same to the last bit."""

    failed: int
    """Candidates that had a reward and now have none."""

    tolerance: float = 0.0
    """That of the canary."""

    @property
    def is_sound(self) -> bool:
        """Whether every reward is there and within the tolerance."""
        return not self.failed and (self.max_abs_diff or 0.0) <= self.tolerance


def default_tolerance(dtype: DType | None) -> float:
    """How far a reward may move without an alarm, by the precision of the forward pass."""
    return FULL_PRECISION_TOLERANCE if dtype == "float32" else OTHER_TOLERANCE


def make(
    groups: Sequence[ScoreGroup],
    results: Sequence[GroupResult],
    fingerprint: str,
    *,
    tolerance: float = FULL_PRECISION_TOLERANCE,
) -> Canary:
    """The canary of groups that were just scored.

    Raises:
        CalibrationError: if there is no group, or a candidate has no reward; names it.
    """
    if not groups:
        raise CalibrationError("canary: there is no group; give at least one")
    return Canary(
        fingerprint=fingerprint,
        groups=tuple(groups),
        rewards=tuple(tuple(_rewards(result)) for result in results),
        tolerance=tolerance,
    )


def _rewards(group: GroupResult) -> list[float]:
    rewards = [result.reward for result in group.results if result.reward is not None]
    if len(rewards) < len(group.results):
        raise CalibrationError(
            f"canary: group {group.id!r} has a candidate without a reward; leave the group out"
        )
    return rewards


def compare(canary: Canary, results: Sequence[GroupResult]) -> CanaryOutcome:
    """Holds the results of the canary's groups, in their order, against the rewards they had.

    Raises:
        ValueError: if they are not the results of these groups.
    """
    asked = [(group.id, len(group.candidates)) for group in canary.groups]
    if asked != [(group.id, len(group.results)) for group in results]:
        raise ValueError("results: not those of the canary's groups")
    before = [reward for group in canary.rewards for reward in group]
    now = [result for group in results for result in group.results]
    differences = [_difference(*pair) for pair in zip(before, now, strict=True)]
    found = [difference for difference in differences if difference is not None]
    return CanaryOutcome(
        max_abs_diff=max(found, default=None),
        is_exact=differences == [0.0] * len(differences),
        failed=len(differences) - len(found),
        tolerance=canary.tolerance,
    )


def _difference(before: float, now: CandidateResult) -> float | None:
    return None if now.reward is None else abs(now.reward - before)


class CanaryWatch:
    """Scores a canary at once and then in every interval.

    Args:
        canary: of the model behind ``score``.
        score: gives rewards, such as ``Scorer.score``; never from a cache.
        interval_seconds: between the end of one look and the start of the next. What could not
            begin within one interval is given up.
        on_outcome: told every outcome; must not raise.
        sleep: waits a number of seconds, for tests.
        clock: the clock of ``Call.deadline``, for tests.
    """

    def __init__(
        self,
        canary: Canary,
        score: Score,
        *,
        interval_seconds: float,
        on_outcome: Callable[[CanaryOutcome], None] = lambda outcome: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last: CanaryOutcome | None = None
        """``None`` until the canary was scored once."""
        self.last_error: Exception | None = None
        """Why the last look got no results at all, where it did not."""
        self.skipped = 0
        """Looks for which the server had no room."""
        self._canary = canary
        self._score = score
        self._interval = interval_seconds
        self._on_outcome = on_outcome
        self._sleep = sleep
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch, on the running event loop."""
        assert self._task is None
        self._task = asyncio.create_task(self._run(), name="canary-watch")

    async def aclose(self) -> None:
        """Ends the watch, in the middle of a look if need be; the last outcome stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Scores the canary once and keeps the outcome; raises nothing but cancellation."""
        call = Call(lane="bulk", deadline=self._clock() + self._interval, uses_cache=False)
        try:
            scored = await self._score(self._canary.groups, call)
            outcome, error = compare(self._canary, scored.groups), None
        except SKIPPED:
            self.skipped += 1
            return
        except Exception as failure:  # the boundary of a worker loop: the owner sees last_error
            outcome, error = _nothing(self._canary), failure
        self.last, self.last_error = outcome, error
        self._on_outcome(outcome)

    async def _run(self) -> None:
        while True:
            await self.look()
            await self._sleep(self._interval)


def _nothing(canary: Canary) -> CanaryOutcome:
    """The outcome of a look that got no results."""
    return CanaryOutcome(
        max_abs_diff=None, is_exact=False, failed=canary.candidates, tolerance=canary.tolerance
    )
