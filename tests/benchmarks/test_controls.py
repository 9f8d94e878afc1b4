from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.controls import BUCKETS, by_length, calibration, longer_wins, sensitivity
from benchmarks.scored import ScoredGroup, win

finite = st.floats(-30, 30)
lengths = st.integers(0, 400)


def group(
    *rewards: float | None,
    characters: Sequence[int] | None = None,
    ranks: Sequence[int] = (1, 2),
    number: int = 0,
) -> ScoredGroup:
    return ScoredGroup(
        number=number,
        id=str(number),
        subset="easy",
        digest="",
        ranks=tuple(ranks),
        rewards=rewards,
        errors=tuple("timeout: none" if reward is None else None for reward in rewards),
        characters=None if characters is None else tuple(characters),
    )


def margin(value: float) -> ScoredGroup:
    return group(value, 0.0)


def test_the_longer_candidate_wins_and_equal_lengths_are_worth_half() -> None:
    rescored = longer_wins(
        [
            group(0.0, 5.0, characters=(30, 20)),
            group(5.0, 0.0, characters=(20, 30)),
            group(5.0, 0.0, characters=(25, 25)),
        ]
    )
    assert [win(one, "half") for one in rescored] == [1.0, 0.0, 0.5]


def test_the_longer_rule_is_of_the_groups_that_the_model_scored_and_whose_lengths_are_known() -> (
    None
):
    known = group(1.0, 0.0, characters=(2, 1), number=3)
    rescored = longer_wins([group(1.0, 0.0), group(None, 0.0, characters=(2, 1)), known])
    assert [one.number for one in rescored] == [3]
    assert rescored[0].rewards == (2.0, 1.0)


@pytest.mark.parametrize(
    ("characters", "bucket"),
    [
        pytest.param((50, 100), "shorter_by_2x", id="half"),
        pytest.param((51, 100), "shorter", id="a little more than half"),
        pytest.param((90, 100), "shorter", id="a tenth less"),
        pytest.param((91, 100), "as_long", id="less than a tenth less"),
        pytest.param((100, 100), "as_long", id="equal"),
        pytest.param((110, 100), "as_long", id="a tenth more"),
        pytest.param((112, 100), "longer", id="more than a tenth more"),
        pytest.param((200, 100), "longer_by_2x", id="twice"),
        pytest.param((0, 0), "as_long", id="both empty"),
        pytest.param((1, 0), "longer_by_2x", id="against nothing"),
    ],
)
def test_a_group_is_in_the_bucket_of_its_ratio(characters: tuple[int, int], bucket: str) -> None:
    buckets = by_length([group(1.0, 0.0, characters=characters)], "loss")
    assert buckets is not None
    assert [one.name for one in buckets if one.n] == [bucket]


def test_buckets_hold_the_share_won_and_say_where_there_is_nothing() -> None:
    buckets = by_length(
        [
            group(1.0, 0.0, characters=(300, 100)),
            group(0.0, 1.0, characters=(400, 100)),
            group(2.0, 2.0, characters=(100, 300)),
        ],
        "half",
    )
    assert buckets is not None
    assert [(one.name, one.n, one.score) for one in buckets] == [
        ("shorter_by_2x", 1, 0.5),
        ("shorter", 0, None),
        ("as_long", 0, None),
        ("longer", 0, None),
        ("longer_by_2x", 2, 0.5),
    ]


def test_many_candidates_are_compared_by_their_mean_lengths() -> None:
    several = group(3.0, 2.0, 4.0, 1.0, ranks=(1, 1, 2, 2), characters=(100, 200, 90, 110))
    buckets = by_length([several], "loss")  # 150 characters against 100; two of four pairs
    assert buckets is not None
    assert [(one.name, one.score) for one in buckets if one.n] == [("longer", 0.5)]


def test_ties_and_groups_without_lengths_or_rewards_are_in_no_bucket() -> None:
    left_out = [
        group(1.0, 0.0),
        group(None, 0.0, characters=(1, 2)),
        group(1.0, 0.0, characters=(1, 2), ranks=(1, 1)),
    ]
    assert by_length(left_out, "loss") is None


@given(st.lists(st.tuples(lengths, lengths, finite), min_size=1))
def test_buckets_are_mirrored_when_chosen_and_rejected_are_swapped(
    rows: list[tuple[int, int, float]],
) -> None:
    straight = by_length([group(m, 0.0, characters=(a, b)) for a, b, m in rows], "half")
    swapped = by_length([group(m, 0.0, characters=(b, a)) for a, b, m in rows], "half")
    assert straight is not None
    assert swapped is not None
    assert [one.n for one in straight] == [one.n for one in reversed(swapped)]
    assert sum(one.n for one in straight) == len(rows)
    assert tuple(one.name for one in straight) == BUCKETS


def test_calibration_of_three_margins_is_what_a_hand_computes() -> None:
    # sigmoid(ln 3.5) = 7/9: right, right, wrong, so 2/3 of the time where 7/9 was promised.
    found = calibration([margin(math.log(3.5)), margin(math.log(3.5)), margin(-math.log(3.5))])
    assert found is not None
    assert found.expected_error == pytest.approx(7 / 9 - 2 / 3)
    assert found.brier == pytest.approx((4 / 81 + 4 / 81 + 49 / 81) / 3)
    assert found.log_loss == pytest.approx(-(2 * math.log(7 / 9) + math.log(2 / 9)) / 3)
    # At the best temperature sigmoid(margin / T) = 2/3, so margin / T = ln 2.
    assert found.temperature == pytest.approx(math.log(3.5) / math.log(2))
    (filled,) = (one for one in found.bins if one.n)
    assert [filled.low, filled.high] == pytest.approx([0.75, 0.8])
    assert filled.n == 3
    assert filled.mean_probability == pytest.approx(7 / 9)
    assert filled.accuracy == pytest.approx(2 / 3)


def test_equal_rewards_are_an_even_bet_that_is_right_by_half() -> None:
    found = calibration([margin(0.0), margin(0.0)])
    assert found is not None
    assert found.expected_error == 0
    assert found.brier == 0.25
    assert found.log_loss == pytest.approx(math.log(2))
    assert (found.bins[0].n, found.bins[0].accuracy) == (2, 0.5)


@pytest.mark.parametrize(
    "margins",
    [
        pytest.param([1.0, 2.0], id="never wrong: the sharper the better"),
        pytest.param([1.0, -2.0], id="wrong in sum: the flatter the better"),
        pytest.param([0.0], id="no margin at all"),
    ],
)
def test_there_is_no_best_temperature(margins: list[float]) -> None:
    found = calibration(map(margin, margins))
    assert found is not None
    assert found.temperature is None


def test_a_group_of_many_pairs_counts_once() -> None:
    one_pair = [margin(math.log(3)), margin(-math.log(3))]
    # Three pairs of the same margin, and one group of a single pair with the opposite.
    three = group(math.log(3), 0.0, 0.0, 0.0, ranks=(1, 2, 2, 2))
    found, expected = calibration([three, one_pair[1]]), calibration(one_pair)
    assert found is not None
    assert expected is not None
    assert found.log_loss == pytest.approx(expected.log_loss)
    assert found.expected_error == pytest.approx(expected.expected_error)
    assert [one.n for one in found.bins] == [one.n for one in expected.bins]


def test_what_is_not_scored_or_a_tie_has_no_calibration() -> None:
    assert calibration([group(None, 1.0), group(1.0, 0.0, ranks=(1, 1))]) is None


@given(st.lists(finite, min_size=1))
def test_the_best_temperature_is_not_beaten_by_others(margins: list[float]) -> None:
    found = calibration(map(margin, margins))
    assert found is not None
    assert 0 <= found.expected_error <= 1
    assert sum(one.n for one in found.bins) == len(margins)
    if found.temperature:
        at_best = log_loss([m / found.temperature for m in margins])
        assert at_best <= found.log_loss + 1e-9
        for factor in (0.9, 1.1):
            assert at_best <= log_loss([m / (factor * found.temperature) for m in margins]) + 1e-9


def log_loss(margins: list[float]) -> float:
    return sum(max(-m, 0) + math.log1p(math.exp(-abs(m))) for m in margins) / len(margins)


@given(st.lists(finite, min_size=1))
def test_swapping_chosen_and_rejected_mirrors_accuracy_and_keeps_what_was_promised(
    margins: list[float],
) -> None:
    straight, swapped = (calibration(margin(sign * m) for m in margins) for sign in (1, -1))
    assert straight is not None
    assert swapped is not None
    for one, other in zip(straight.bins, swapped.bins, strict=True):
        assert one.n == other.n
        if one.accuracy is not None and other.accuracy is not None:
            assert one.accuracy + other.accuracy == pytest.approx(1)
            assert one.mean_probability == other.mean_probability


def test_sensitivity_is_the_largest_change_and_the_orders_that_changed() -> None:
    before = [group(1.0, 0.5, number=0), group(1.0, 0.5, number=1), group(2.0, 2.0, number=2)]
    after = [group(1.0, 0.75, number=0), group(0.5, 0.625, number=1), group(2.0, 1.5, number=2)]
    found = sensitivity(before, reversed(after))
    assert (found.n, found.largest_change, found.changed_order) == (3, 0.5, 2)


def test_sensitivity_is_of_groups_that_are_scored_in_both() -> None:
    before = [group(1.0, 0.5, number=0), group(None, 0.5, number=1), group(1.0, 0.5, number=2)]
    after = [group(1.0, None, number=0), group(1.0, 0.5, number=1)]
    found = sensitivity(before, after)
    assert (found.n, found.largest_change, found.changed_order) == (0, None, 0)


def test_sensitivity_needs_the_same_candidates() -> None:
    with pytest.raises(ValueError, match="zip"):
        sensitivity([group(1.0, 0.5)], [group(1.0, 0.5, 0.2, ranks=(1, 2, 2))])


@given(st.lists(st.tuples(finite, finite, finite), min_size=1))
def test_the_same_asking_changes_nothing(rows: list[tuple[float, float, float]]) -> None:
    groups = [group(*row, ranks=(1, 2, 3), number=n) for n, row in enumerate(rows)]
    found = sensitivity(groups, groups)
    assert (found.n, found.largest_change, found.changed_order) == (len(rows), 0.0, 0)
