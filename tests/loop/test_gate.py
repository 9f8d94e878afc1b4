from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.statistics import Interval
from loop.gate import GateConfig, WinRate, decide, gold_gain, win_rate
from loop.groups import ScoredCandidate, ScoredGroup
from loop.monitors import Alarm


def group(question: int, *rewards: float | None) -> ScoredGroup:
    candidates = tuple(
        ScoredCandidate("a", 5, "stop", -1.0, reward=r, error=None if r is not None else "failed")
        for r in rewards
    )
    return ScoredGroup(f"q{question:03d}", "r1", "f00d", candidates)


def groups(rewards: list[list[float]]) -> list[ScoredGroup]:
    return [group(number, *numbers) for number, numbers in enumerate(rewards)]


tables = st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_swapping_the_policies_turns_the_win_rate_around(table: list[list[float]], rng) -> None:  # type: ignore[no-untyped-def]  # hypothesis gives a Random
    other = [[rng.uniform(-9, 9) for _ in row] for row in table]
    forth = win_rate(groups(table), groups(other), seed=0)
    back = win_rate(groups(other), groups(table), seed=0)
    assert forth is not None
    assert back is not None
    assert forth.mean == pytest.approx(1 - back.mean)


def test_a_policy_against_itself_wins_half() -> None:
    table = groups([[1.0, 1.0], [2.0, 2.0], [0.5, 0.5]])
    result = win_rate(table, table, seed=0)
    assert result == WinRate(0.5, Interval(0.5, 0.5), 3)


def test_questions_with_an_error_on_either_side_do_not_count() -> None:
    result = win_rate(
        [group(0, 2.0), group(1, None), group(2, 5.0)],
        [group(0, 1.0), group(1, 0.0), group(2, None)],
        seed=0,
    )
    assert result == WinRate(1.0, Interval(1.0, 1.0), 1)


def test_without_a_comparable_question_there_is_no_win_rate() -> None:
    assert win_rate([group(0, None)], [group(0, 1.0)], seed=0) is None


@pytest.mark.parametrize(
    ("low", "questions", "alarms", "decision", "words"),
    [
        pytest.param(0.51, 100, [], "promoted", "clears 0.5", id="clear"),
        pytest.param(0.50, 100, [], "refused", "does not clear 0.5", id="not above"),
        pytest.param(0.90, 29, [], "refused", "29 comparable", id="little evidence"),
        pytest.param(
            0.90,
            100,
            [Alarm("length growth", 0.4, 0.25)],
            "refused",
            "length growth 0.4 is above 0.25",
            id="an alarm",
        ),
    ],
)
def test_promotion_is_earned(
    low: float, questions: int, alarms: list[Alarm], decision: str, words: str
) -> None:
    evidence = WinRate((low + 1) / 2, Interval(low, 1.0), questions)
    result = decide(evidence, alarms, GateConfig())
    assert result.decision == decision
    assert words in result.reason


def test_no_evidence_is_no_promotion() -> None:
    assert decide(None, [], GateConfig()).decision == "refused"


def test_the_gold_gain_is_paired_by_question() -> None:
    gain = gold_gain({"a": 0.7, "b": 0.5, "c": 1.0}, {"a": 0.5, "b": 0.3}, seed=0)
    assert gain is not None
    assert gain[0] == pytest.approx(0.2)
    assert gain[1].low == pytest.approx(0.2)
    assert gold_gain({}, {"a": 1.0}, seed=0) is None
