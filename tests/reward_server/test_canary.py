from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from reward_server.calibration import CalibrationError, require
from reward_server.canary import (
    FULL_PRECISION_TOLERANCE,
    OTHER_TOLERANCE,
    Canary,
    CanaryOutcome,
    CanaryWatch,
    compare,
    default_tolerance,
    make,
)
from reward_server.errors import (
    DeadlineExceeded,
    DeviceFailed,
    Draining,
    Overloaded,
    ServerStartError,
)
from reward_server.protocol import CandidateResult, GroupResult, ItemError, ScoreGroup, Usage
from reward_server.scorer import Call, Scored

pytestmark = pytest.mark.anyio

GROUPS = [
    ScoreGroup.of("q1", Conversation.ask("What helps a stuffy nose?"), ["Rest.", "Steam helps."]),
    ScoreGroup.of("q2", Conversation.ask("And a sore throat?"), ["Tea."]),
]
REWARDS = [1.0, -2.0, 0.5]
ERROR = ItemError(code="non_finite_reward", detail="the logit is nan")


def results(rewards: Sequence[float | None] = REWARDS) -> list[GroupResult]:
    left = iter(rewards)

    def result() -> CandidateResult:
        reward = next(left)
        return CandidateResult(reward=reward, tokens=9, error=ERROR if reward is None else None)

    return [
        GroupResult(id=group.id, results=tuple(result() for _ in group.candidates))
        for group in GROUPS
    ]


@pytest.fixture
def canary() -> Canary:
    return make(GROUPS, results(), "feed", tolerance=0.01)


def test_a_canary_keeps_groups_and_rewards(canary: Canary) -> None:
    assert canary.groups == tuple(GROUPS)
    assert canary.rewards == ((1.0, -2.0), (0.5,))
    assert canary.candidates == 3


def test_the_same_rewards_are_exact(canary: Canary) -> None:
    outcome = compare(canary, results())
    assert outcome == CanaryOutcome(max_abs_diff=0, is_exact=True, failed=0, tolerance=0.01)
    assert outcome.is_sound


@pytest.mark.parametrize(
    ("rewards", "difference", "failed", "is_sound"),
    [
        pytest.param([1.0, -2.005, 0.5], 0.005, 0, True, id="within the tolerance"),
        pytest.param([1.0, -2.0, 0.75], 0.25, 0, False, id="beyond the tolerance"),
        pytest.param([1.0, None, 0.5], 0.0, 1, False, id="a reward is gone"),
        pytest.param([None, None, None], None, 3, False, id="all rewards are gone"),
    ],
)
def test_what_is_not_the_same_is_told(
    canary: Canary,
    rewards: list[float | None],
    difference: float | None,
    failed: int,
    is_sound: bool,
) -> None:
    outcome = compare(canary, results(rewards))
    assert outcome.max_abs_diff == (None if difference is None else pytest.approx(difference))
    assert outcome.failed == failed
    assert outcome.is_sound is is_sound
    assert not outcome.is_exact


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(0, 1))
def test_a_canary_is_sound_exactly_when_no_reward_moved_past_the_tolerance(
    now: list[float], tolerance: float
) -> None:
    outcome = compare(make(GROUPS, results(), "feed", tolerance=tolerance), results(now))
    moved = [abs(a - b) for a, b in zip(REWARDS, now, strict=True)]
    assert outcome.max_abs_diff == max(moved)
    assert outcome.is_sound == (max(moved) <= tolerance)
    assert outcome.is_exact == (now == REWARDS)


def test_results_of_other_groups_cannot_be_compared(canary: Canary) -> None:
    with pytest.raises(ValueError, match="not those of the canary's groups"):
        compare(canary, results()[::-1])


def test_a_canary_is_not_made_of_errors() -> None:
    with pytest.raises(CalibrationError, match="group 'q1' has a candidate without a reward"):
        make(GROUPS, results([None, 1.0, 2.0]), "feed")
    with pytest.raises(CalibrationError, match="there is no group"):
        make([], [], "feed")


def test_a_canary_has_a_reward_for_each_candidate() -> None:
    with pytest.raises(ValueError, match="not one for each candidate"):
        make(GROUPS, results()[:1], "feed")


def test_a_loaded_canary_is_the_saved_one(canary: Canary, tmp_path: Path) -> None:
    path = tmp_path / "canary.json"
    canary.save(path)
    assert Canary.load(path) == canary
    with pytest.raises(ServerStartError, match=r"^canary: .*none\.json: no such file"):
        Canary.load(tmp_path / "none.json")


def test_a_canary_of_another_model_is_refused(canary: Canary) -> None:
    with pytest.raises(ServerStartError, match="canary: made for the reward model feed"):
        require(canary, "beef")


def test_half_precision_may_move_further() -> None:
    assert default_tolerance("float32") == FULL_PRECISION_TOLERANCE
    assert default_tolerance("bfloat16") == default_tolerance(None) == OTHER_TOLERANCE


class Scorer:
    """Gives one outcome a call, the last for ever, and notes the calls."""

    def __init__(self, *outcomes: list[GroupResult] | Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[Call] = []

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        assert list(groups) == GROUPS
        self.calls.append(call)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return Scored(groups=tuple(outcome), usage=Usage(tokens=27, computed_tokens=27))


class Pauses:
    """A sleep that returns when it is told to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = asyncio.Event()
        self._over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._begun.set()
        await self._over.wait()
        self._over.clear()

    async def reached(self) -> None:
        await asyncio.wait_for(self._begun.wait(), timeout=10)
        self._begun.clear()

    def end(self) -> None:
        self._over.set()


def last(watch: CanaryWatch) -> CanaryOutcome:
    assert watch.last is not None
    return watch.last


async def test_a_watch_looks_at_once_and_after_every_interval(canary: Canary) -> None:
    scorer, pauses = Scorer(results(), results([1.0, -2.0, 0.75])), Pauses()
    told: list[CanaryOutcome] = []
    watch = CanaryWatch(
        canary,
        scorer.score,
        interval_seconds=60,
        on_outcome=told.append,
        sleep=pauses,
        clock=lambda: 1000.0,
    )
    watch.start()
    await pauses.reached()
    assert last(watch).is_exact
    pauses.end()
    await pauses.reached()
    await watch.aclose()
    assert last(watch).max_abs_diff == 0.25
    assert not last(watch).is_sound
    assert told == [CanaryOutcome(0.0, is_exact=True, failed=0, tolerance=0.01), last(watch)]
    assert pauses.seconds == [60, 60]
    assert scorer.calls == [Call(lane="bulk", deadline=1060.0, uses_cache=False)] * 2


@pytest.mark.parametrize("error", [Overloaded, DeadlineExceeded, Draining])
async def test_a_server_without_room_is_left_alone(canary: Canary, error: type[Exception]) -> None:
    watch = CanaryWatch(canary, Scorer(results(), error("busy")).score, interval_seconds=60)
    await watch.look()
    before = watch.last
    await watch.look()
    assert watch.last is before
    assert watch.last_error is None
    assert watch.skipped == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(DeviceFailed("the device failed"), id="the server's error"),
        pytest.param(RuntimeError("a bug"), id="any error"),
        pytest.param(results()[:1], id="results of something else"),
    ],
)
async def test_a_look_that_fails_is_an_alarm_and_no_end(
    canary: Canary, failure: list[GroupResult] | Exception
) -> None:
    pauses = Pauses()
    watch = CanaryWatch(canary, Scorer(failure, results()).score, interval_seconds=60, sleep=pauses)
    watch.start()
    await pauses.reached()
    assert last(watch) == CanaryOutcome(None, is_exact=False, failed=3, tolerance=0.01)
    assert not last(watch).is_sound
    error = watch.last_error
    assert error is failure if isinstance(failure, Exception) else isinstance(error, ValueError)
    pauses.end()
    await pauses.reached()
    await watch.aclose()
    assert last(watch).is_sound
    assert watch.last_error is None


async def test_a_watch_closes_in_the_middle_of_a_look(canary: Canary) -> None:
    begun, is_stopped = asyncio.Event(), False

    async def never(groups: Sequence[ScoreGroup], call: Call) -> Scored:
        nonlocal is_stopped
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_stopped = True
        raise AssertionError

    watch = CanaryWatch(canary, never, interval_seconds=60)
    watch.start()
    await asyncio.wait_for(begun.wait(), timeout=10)
    await watch.aclose()
    assert is_stopped
    assert watch.last is None


async def test_a_watch_that_was_never_started_closes(canary: Canary) -> None:
    await CanaryWatch(canary, Scorer(results()).score, interval_seconds=60).aclose()
