from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput.correctness import Truth, agreements, rank_agreement

rewards = st.lists(st.integers(-50, 50).map(float), min_size=8, max_size=8)
TRUTH = Truth(float32=[1.0, -1.0, 0.5, 2.0], plain=[1.01, -1.0, 0.5, 2.0])


@given(rewards)
def test_a_method_agrees_with_itself(one: list[float]) -> None:
    assert rank_agreement(one, one, candidates=4) == 1.0


@given(rewards, rewards)
def test_rank_agreement_is_a_share_and_takes_no_side(one: list[float], other: list[float]) -> None:
    there, back = (rank_agreement(*pair, candidates=4) for pair in ((one, other), (other, one)))
    assert there == back
    assert 0 <= there <= 1


@given(st.permutations(range(8)))
def test_a_reversed_order_agrees_nowhere(order: list[int]) -> None:
    one = [float(rank) for rank in order]
    assert rank_agreement(one, [-reward for reward in one], candidates=8) == 0.0


def test_ranks_are_compared_inside_groups_only() -> None:
    # Each group is ordered alike; the groups are not.
    assert rank_agreement([1, 2, 3, 4], [3, 4, 1, 2], candidates=2) == 1.0


def test_groups_of_one_are_ranked_among_each_other() -> None:
    assert rank_agreement([1, 2, 3], [1, 3, 2], candidates=1) == pytest.approx(2 / 3)


def test_a_tie_of_one_method_is_half_a_pair() -> None:
    assert rank_agreement([1, 2], [1, 1], candidates=2) == 0.5


def test_every_two_methods_are_compared() -> None:
    found = agreements({"a": [1.0, 2.0], "b": [1.5, 2.0], "c": [2.0, 1.0]}, candidates=2)
    assert list(found) == ["a~b", "a~c", "b~c"]
    assert found["a~b"].max_abs_diff == 0.5
    assert found["a~b"].rank_agreement == 1.0
    assert found["a~c"].rank_agreement == 0.0


def test_a_method_may_be_off_a_few_times_as_far_as_the_plain_forward() -> None:
    assert TRUTH.complaint([1.03, -1.0, 0.5, 2.0]) is None
    complaint = TRUTH.complaint([1.2, -1.0, 0.5, 2.0])
    assert complaint is not None
    assert "a wrong method does not count" in complaint


def test_in_float32_a_thousandth_of_the_spread_is_the_limit() -> None:
    exact = Truth(float32=TRUTH.float32, plain=TRUTH.float32)
    assert exact.complaint([1.0005, -1.0, 0.5, 2.0]) is None
    assert exact.complaint([1.01, -1.0, 0.5, 2.0]) is not None


def test_a_squashed_logit_does_not_count() -> None:
    squashed = [1 / (1 + math.exp(-reward)) for reward in TRUTH.float32]
    assert TRUTH.complaint(squashed) is not None


def test_a_missing_reward_does_not_count() -> None:
    assert TRUTH.complaint([math.nan, -1.0, 0.5, 2.0]) is not None


def test_only_the_sample_is_compared_with_the_truth() -> None:
    assert TRUTH.complaint([*TRUTH.float32, 99.0]) is None
