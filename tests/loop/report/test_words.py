"""Numbers as people read them, and sentences that claim no more than the evidence."""

from __future__ import annotations

from foundation.words import SPACE
from loop.report import words
from loop.report.words import tell_cautions, tell_result
from loop.summary import Summary
from tests.loop.report.runs import NOWHERE, play, skip, sum_up, without_gold

PLAYED = [play(1, step=1), play(2, step=1.6, decision="refused"), play(3, step=2.7)]


def tell(summary: Summary) -> str:
    return tell_result(summary, planned=3, questions=160).replace(SPACE, " ")


def test_growth_says_longer_shorter_or_as_long() -> None:
    told = [words.growth(value, 100).replace(SPACE, " ") for value in (104, 97, 100.2)]
    assert told == ["4 % longer", "3 % shorter", "as long"]


def test_a_finished_run_is_told_in_two_sentences() -> None:
    assert tell(sum_up(PLAYED)) == (
        "After 3 rounds, 2 promoted, gold rose from 0.520 to 0.763 (gain +0.243, 95 % interval"
        " +0.203 to +0.283) on 160 held-out questions. The proxy reward went from −0.31 to 1.85,"
        " the served policy wins 80 % of comparisons with the base and its answers are 4 % longer."
    )


def test_without_gold_the_proxy_comes_first() -> None:
    assert tell(without_gold(sum_up(PLAYED))).startswith(
        "After 3 rounds, 2 promoted, the proxy reward went from −0.31 to 1.85 on 160 held-out"
        " questions. The served policy wins 80 %"
    )


def test_a_run_on_its_way_says_how_far_it_is() -> None:
    assert tell(sum_up(PLAYED[:1], status="running")).startswith("After 1 of 3 rounds, 1 promoted,")


def test_without_a_promotion_the_base_is_still_served() -> None:
    assert tell(sum_up([skip(1)], status="failed")) == (
        "The run failed. After 1 of 3 rounds, none promoted, the base policy is still served:"
        " gold 0.520, a proxy reward of −0.31 and 43 tokens an answer on 160 held-out questions."
    )


def test_a_failed_run_says_why() -> None:
    told = tell(sum_up([skip(1)], status="failed", error="the trainer's process died."))
    assert told.startswith("The run failed: the trainer's process died. After 1 of 3 rounds,")


def test_before_the_first_round_only_the_base_is_told() -> None:
    assert tell(sum_up(status="running")).startswith("No round is finished yet. The base policy")


def test_a_run_that_failed_early_claims_nothing() -> None:
    told = tell(sum_up(status="failed", baseline=NOWHERE))
    assert told == "The run failed. Nothing has been measured yet."


def test_gold_only_rises_or_falls_where_the_interval_says_so() -> None:
    verbs = []
    for interval in ((0.01, 0.2), (-0.01, 0.1), (-0.2, -0.01)):
        summary = sum_up(PLAYED)
        summary.final.gold_gain_ci95 = interval
        verbs.append(tell(summary).split(" from ")[0].split()[-1])
    assert verbs == ["rose", "went", "fell"]


def test_a_clean_run_needs_no_caution() -> None:
    assert tell_cautions(sum_up(PLAYED)) == []
    assert tell_cautions(sum_up(status="running")) == []


def test_a_proxy_that_rises_while_gold_falls_is_called_over_optimised() -> None:
    summary = sum_up(PLAYED)
    summary.final.gold_gain_ci95 = (-0.2, -0.1)
    [caution] = tell_cautions(summary)
    assert "over-optimised" in caution


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    summary = sum_up(PLAYED)
    summary.final.gold_gain_ci95 = (-0.01, 0.1)
    [caution] = tell_cautions(summary)
    assert "includes zero" in caution


def test_what_is_not_proven_to_be_served_is_named() -> None:
    played = play(2, step=1)
    played.deploy.verified = False
    [caution] = tell_cautions(sum_up([played]))
    assert "r2" in caution
