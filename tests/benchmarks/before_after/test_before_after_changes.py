"""Pairing, differences and what may be said of them, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.before_after.changes import Item, average, change, outcome, pair
from benchmarks.before_after.results import Change, Difference, Kind, Measure
from benchmarks.before_after.verdict import verdict
from benchmarks.boards import Leaf, mean
from benchmarks.results import Score


def item(number: int, value: float | None, *, digest: str = "d", section: str = "s") -> Item:
    values: dict[Measure, float] = {} if value is None else {"accuracy": value}
    return Item(number, digest, section, values, error="too long" if value is None else None)


def changed(before: list[float], after: list[float], *, measure: Measure = "accuracy") -> Change:
    return change(
        Leaf(tuple(before), tuple(range(len(before)))),
        Leaf(tuple(after), tuple(range(len(after)))),
        kind="medical",
        mode="greedy",
        measure=measure,
        seed=0,
    )


def made(kind: Kind, outcome: str | None, *, score: float = 0.1) -> Change:
    level = Score(score=0.5, n=4, ci95=(0.4, 0.6))
    return Change.model_validate(
        {
            "kind": kind,
            "mode": "greedy",
            "measure": "accuracy",
            "before": level,
            "after": level,
            "difference": {"score": score, "ci95": (score - 0.05, score + 0.05), "p": 0.01},
            "n": 4,
            "outcome": outcome,
        }
    )


def test_only_questions_that_both_answered_are_compared() -> None:
    before = [item(0, 1.0), item(1, 0.0), item(2, None), item(4, 1.0)]
    after = [item(4, 0.0), item(2, 1.0), item(0, 1.0), item(1, None), item(3, 1.0)]
    paired = pair(before, after)
    assert [(a.number, b.number) for a, b in paired.pairs] == [(0, 0), (4, 4)]
    assert paired.failed == 2
    first, second = paired.whole("accuracy")
    assert (first.values, second.values, first.numbers) == ((1.0, 1.0), (1.0, 0.0), (0, 4))


def test_a_question_that_became_another_one_is_not_compared() -> None:
    paired = pair([item(0, 1.0, digest="old")], [item(0, 0.0, digest="new")])
    assert (paired.pairs, paired.failed, paired.measures()) == ([], 0, [])


def test_the_same_question_twice_is_paired_at_each_of_its_places() -> None:
    paired = pair([item(0, 1.0), item(1, 0.0)], [item(1, 1.0), item(0, 0.0)])
    assert [leaf.values for leaf in paired.whole("accuracy")] == [(1.0, 0.0), (0.0, 1.0)]


def test_sections_are_scored_apart() -> None:
    before = [item(0, 1.0, section="a"), item(1, 0.0, section="b"), item(2, 0.0, section="a")]
    after = [item(0, 1.0, section="a"), item(1, 1.0, section="b"), item(2, 1.0, section="a")]
    sections = pair(before, after).sections("accuracy")
    assert {name: (mean(a), mean(b)) for name, (a, b) in sections.items()} == {
        "a": (0.5, 1.0),
        "b": (0.0, 1.0),
    }
    assert tuple(map(mean, average(sections))) == (0.25, 1.0)


def test_a_measure_that_is_not_known_of_every_question_is_left_out() -> None:
    known = Item(0, "d", "s", {"gold": 0.5, "length_tokens": 8.0})
    unknown = Item(1, "d", "s", {"length_tokens": 9.0})
    assert pair([known, unknown], [known, unknown]).measures() == ["length_tokens"]


def test_a_difference_is_after_minus_before_question_by_question() -> None:
    found = changed([0.0] * 10 + [1.0] * 10, [1.0] * 8 + [0.0] * 2 + [1.0] * 10)
    assert (found.before.score, found.after.score, found.n) == (0.5, 0.9, 20)
    assert found.difference.score == pytest.approx(0.4)
    low, high = found.difference.ci95
    assert 0.15 <= low < 0.4 < high <= 0.65
    assert found.difference.p == pytest.approx(2 / 2**8, abs=0.003)  # all eight signs alike
    assert found.outcome == "gain"


def test_a_loss_is_a_gain_read_backwards() -> None:
    first, second = [0.0] * 10 + [1.0] * 10, [1.0] * 8 + [0.0] * 2 + [1.0] * 10
    assert changed(second, first).outcome == "loss"


def test_one_question_proves_nothing() -> None:
    found = changed([0.0], [1.0])
    assert found.difference.ci95 == (1.0, 1.0)
    assert (found.difference.p, found.outcome) == (1.0, "unclear")


def test_answers_that_did_not_change_are_no_change() -> None:
    found = changed([0.0, 1.0, 1.0], [0.0, 1.0, 1.0])
    assert (found.difference.score, found.difference.ci95, found.difference.p) == (0, (0, 0), 1)
    assert found.outcome == "unclear"


def test_of_lengths_more_is_neither_better_nor_worse() -> None:
    assert changed([10.0] * 20, [20.0] * 20, measure="length_tokens").outcome is None


@given(
    st.floats(-1, 1),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted),
    st.floats(0.0001, 1),
)
def test_gains_and_losses_mirror_each_other(score: float, ends: list[float], p: float) -> None:
    mirror = {"gain": "loss", "loss": "gain", "unclear": "unclear"}
    low, high = ends
    there = outcome(Difference(score=score, ci95=(low, high), p=p))
    back = outcome(Difference(score=-score, ci95=(-high, -low), p=p))
    assert back == mirror[there]


def test_the_verdict_has_gains_then_losses_then_what_is_unclear() -> None:
    said = list(
        verdict(
            {
                "x, greedy": made("medical", "loss", score=-0.1),
                "y, greedy": made("medical", "unclear", score=0.01),
                "clinic world, greedy": made("world", "gain", score=0.2),
            }
        )
    )
    assert said == [
        "gain: clinic world, greedy: accuracy +20.0 [15.0, 25.0]",
        "loss: x, greedy: accuracy −10.0 [−15.0, −5.0]",
        "no clear change: y, greedy",
        "general ability: not measured; give --general NAME=SOURCE to see an alignment tax",
    ]


def test_a_loss_of_general_ability_is_called_a_tax() -> None:
    *_, last = verdict({"g, greedy": made("general", "loss"), "h, greedy": made("general", "gain")})
    assert last == "alignment tax: general ability was lost in g, greedy"


def test_no_tax_is_said_with_how_far_the_interval_reaches() -> None:
    *_, last = verdict({"g, greedy": made("general", "unclear", score=-0.01)})
    assert last == (
        "no alignment tax seen, as far as the intervals reach: g, greedy accuracy −1.0 [−6.0, 4.0]"
    )
