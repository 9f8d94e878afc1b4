"""From scored groups to results: scores, controls, counts, and what makes them partial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.evaluation.data import Survey
from benchmarks.evaluation.summary import Evaluation, summarize
from benchmarks.scored import ScoredGroup
from benchmarks.suites import SUITES


def scored(number: int, rewards: tuple[float | None, ...], **fields: Any) -> ScoredGroup:
    errors = tuple("timeout: late" if reward is None else None for reward in rewards)
    group = ScoredGroup(
        number=number,
        id=f"g{number}",
        subset="Easy",
        digest=f"d{number}",
        ranks=(1, 2),
        rewards=rewards,
        errors=errors,
        characters=(9, 3),
    )
    return replace(group, **fields)


WON, LOST, EVEN = (2.0, 1.0), (1.0, 2.0), (1.0, 1.0)


def evaluation(groups: list[ScoredGroup], suite: str = "pairs", **fields: Any) -> Evaluation:
    survey = Survey(groups=len(groups), digest="d", examples=(), bad_records=0, bad_shown=())
    made = Evaluation(
        suite=SUITES[suite],
        ties=SUITES[suite].ties,
        model="m",
        fingerprint="f00d",
        views={"as_asked": groups},
        survey=survey,
        settings={"seed": 0},
    )
    return replace(made, **fields)


def test_a_whole_evaluation_is_not_partial() -> None:
    results = summarize(evaluation([scored(0, WON), scored(1, LOST), scored(2, WON)]))
    assert results.overall == pytest.approx(2 / 3)
    assert results.overall_ci95 is not None
    assert results.overall_ci95[0] < 2 / 3 < results.overall_ci95[1]
    assert (results.partial, results.partial_reasons) == (False, ())
    assert results.counts.model_dump() == {
        "groups": 3,
        "scored": 3,
        "failed": 0,
        "ties": 0,
        "bad_records": 0,
        "errors": {},
    }
    assert results.controls.longer_wins is not None
    assert results.controls.longer_wins.score == 1.0
    assert results.controls.shuffled_question is None


def test_a_failed_group_is_in_no_score_and_makes_the_results_partial() -> None:
    results = summarize(evaluation([scored(0, WON), scored(1, (None, 1.0))]))
    assert results.overall == 1.0
    assert results.counts.failed == 1
    assert results.counts.errors == {"timeout": 1}
    assert results.partial_reasons == ("1 group has no reward for every candidate (timeout 1)",)


def test_groups_that_were_not_asked_are_told() -> None:
    made = evaluation([scored(0, WON)])
    assert made.survey is not None
    half = replace(made, survey=replace(made.survey, groups=7), reasons=("ended half-way: gone",))
    assert summarize(half).partial_reasons == (
        "ended half-way: gone",
        "1 of 7 groups were asked",
    )


def test_with_nothing_scored_there_is_no_number() -> None:
    results = summarize(evaluation([scored(0, (None, None))], suite="medical-rewardbench"))
    assert (results.overall, results.overall_ci95, results.sections) == (None, None, {})
    assert "no group is scored" in results.partial_reasons


def test_a_benchmark_of_fixed_size_says_what_is_short() -> None:
    results = summarize(evaluation([scored(0, WON)], suite="medical-rewardbench"))
    assert "Easy: 1 group, the published benchmark has 238" in results.partial_reasons
    assert "missing: Hard" in results.partial_reasons
    assert results.sections["Easy"].score == 1.0


def test_equal_rewards_are_worth_what_the_rule_says() -> None:
    groups = [scored(0, EVEN), scored(1, WON)]
    assert summarize(evaluation(groups)).overall == 0.5
    assert summarize(evaluation(groups, ties="half")).overall == 0.75


def test_controls_are_scores_of_the_same_benchmark() -> None:
    asked = [scored(0, WON), scored(1, WON)]
    results = summarize(
        evaluation(
            asked,
            views={
                "as_asked": asked,
                "shuffled_question": [scored(0, WON), scored(1, LOST)],
                "empty_question": [scored(0, LOST), scored(1, (None, None))],
                "batch_composition": [scored(0, (1.0, 2.5))],
            },
        )
    )
    controls = results.controls
    assert controls.shuffled_question is not None
    assert controls.empty_question is not None
    assert controls.batch_composition is not None
    assert (controls.shuffled_question.score, controls.shuffled_question.n) == (0.5, 2)
    assert (controls.empty_question.score, controls.empty_question.n) == (0.0, 1)
    assert controls.batch_composition.n == controls.batch_composition.changed_order == 1
    assert controls.batch_composition.largest_change == pytest.approx(1.5)


def test_groups_of_another_benchmark_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="RewardBench has no 'Easy'"):
        summarize(evaluation([scored(0, WON)], suite="rewardbench"))


def test_a_judge_that_ranks_is_scored_by_its_own_rule() -> None:
    four = {"ranks": (1, 2, 2, 2), "subset": "Math", "characters": None}
    groups = [scored(0, (1.0, 0.0, 0.0, 0.0), **four), scored(1, (None,) * 4, **four)]
    results = summarize(evaluation(groups, suite="rewardbench2", judge_mode="ranking"))
    assert results.overall == pytest.approx((1 + 0.25) / 2)
