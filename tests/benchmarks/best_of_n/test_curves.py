"""Curves over N: exact expectations against every set there is, votes by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.best_of_n.curves import (
    METHODS,
    Sample,
    SampledQuestion,
    curves,
    expected_best,
    sizes,
)

samples = st.lists(
    st.builds(
        Sample,
        value=st.sampled_from([0.0, 0.5, 1.0]),
        vote=st.sampled_from(["A", "B", None]),
        reward=st.sampled_from([-1.0, 0.0, 0.25, 2.0]),
    ),
    min_size=1,
    max_size=6,
)


def question(*triples: tuple[float, str | None, float], name: str = "q") -> SampledQuestion:
    return SampledQuestion(name, tuple(Sample(*triple) for triple in triples))


def reward_of(sample: Sample) -> float:
    assert sample.reward is not None
    return sample.reward


def best_of_all_sets(members: Sequence[Sample], n: int) -> float:
    """By enumeration: the mean over the sets, and in each over those that share its maximum."""
    means = []
    for chosen in combinations(members, n):
        highest = max(map(reward_of, chosen))
        top = [sample.value for sample in chosen if sample.reward == highest]
        means.append(sum(top) / len(top))
    return sum(means) / len(means)


def test_a_curve_has_the_powers_of_two_and_its_end() -> None:
    assert [sizes(n) for n in (1, 2, 10, 16)] == [[1], [1, 2], [1, 2, 4, 8, 10], [1, 2, 4, 8, 16]]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=7), st.data())
def test_with_different_rewards_the_expectation_is_that_over_all_sets(
    values: list[float], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(values))))
    members = [Sample(v, None, float(r)) for v, r in zip(values, order, strict=True)]
    for n in range(1, len(members) + 1):
        expected = best_of_all_sets(members, n)
        assert expected_best(members, n, key=reward_of) == pytest.approx(expected)


def test_samples_with_equal_rewards_share_what_falls_to_them() -> None:
    # Rewards 2, 2, 0 with values 1, 0, 0. Of the sets of two: {1st, 2nd} has a half, {1st, 3rd} has
    # 1, {2nd, 3rd} has 0: a mean of one half.
    members = question((1, None, 2), (0, None, 2), (0, None, 0)).samples
    assert expected_best(members, 2, key=reward_of) == pytest.approx(0.5)
    assert expected_best(members, 2, key=reward_of) == best_of_all_sets(members, 2)


def test_the_oracle_is_pass_at_k() -> None:
    # Three of ten are right: pass@4 = 1 - C(7, 4) / C(10, 4) = 1 - 35/210.
    one = question(*[(float(i < 3), "A", 0.0) for i in range(10)])
    assert curves([one], seed=0)["oracle"][4].values == pytest.approx([1 - 35 / 210])


def test_by_hand() -> None:
    one = question((1, "A", 0.1), (0, "B", 0.9), (0, "B", 0.2), (1, "A", 3.0))
    found = curves([one], seed=0)
    assert found["reward"][4].values == (1.0,)  # the last has the highest reward
    assert found["vote"][4].values == (1.0,)  # two against two: A was given first
    assert found["random"][1].values == found["reward"][1].values == (0.5,)
    # Weighted: A has exp(0.1 - 3) + 1, B has exp(0.9 - 3) + exp(0.2 - 3), far less.
    assert found["weighted_vote"][4].values == (1.0,)
    against = question((1, "A", 0.1), (0, "B", 0.9), (0, "B", 0.2), (1, "A", 0.0))
    assert curves([against], seed=0)["weighted_vote"][4].values == (0.0,)
    # The better pair of the six: only {1st, 3rd} and {2nd, 3rd} and {1st, 2nd} choose a wrong one.
    assert found["reward"][2].values == pytest.approx((3 / 6,))


@pytest.mark.parametrize("temperature", [0.1, 0.001])
def test_at_a_low_temperature_the_weighted_vote_is_the_rewards_choice(temperature: float) -> None:
    far_apart = question((0, "A", 10), (1, "B", 20), (0, "C", 30))
    found = curves([far_apart], seed=0, temperature=temperature)
    for n in (1, 2, 3):
        assert found["weighted_vote"][n].values == pytest.approx(found["reward"][n].values)


def test_samples_that_answer_nothing_do_not_vote() -> None:
    assert curves([question((0, None, 0), (1, "A", 0))], seed=0)["vote"][2].values == (1.0,)
    assert curves([question((0, None, 0), (1, None, 0))], seed=0)["vote"][2].values == (0.0,)


@given(samples)
def test_every_method_stays_between_the_worst_and_the_oracle(members: list[Sample]) -> None:
    found = curves([SampledQuestion("q", tuple(members))], seed=1)
    for n, leaf in found["oracle"].items():
        for method in METHODS:
            worst = min(sample.value for sample in members)
            assert worst - 1e-9 <= found[method][n].values[0] <= leaf.values[0] + 1e-9
    flat = [leaf.values[0] for leaf in found["random"].values()]
    assert max(flat) - min(flat) < 1e-12


def test_the_same_seed_gives_the_same_curves() -> None:
    one = question(*[(float(i % 3 == 0), "ABC"[i % 3], math.sin(i)) for i in range(12)])
    assert curves([one], seed=5) == curves([one], seed=5)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([], id="no question"),
        pytest.param([question((1, "A", 1)), question((1, "A", 1), (0, "B", 0))], id="unequal"),
        pytest.param([SampledQuestion("q", (Sample(1, "A", None),))], id="no reward"),
    ],
)
def test_what_has_no_curve_is_refused(bad: list[SampledQuestion]) -> None:
    with pytest.raises(ValueError, match="equally many samples, all of them with rewards"):
        curves(bad, seed=0)
