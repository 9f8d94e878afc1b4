from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.statistics import bootstrap_mean

values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


@settings(max_examples=20, deadline=None)
@given(values)
def test_the_interval_lies_within_the_values(numbers: list[float]) -> None:
    low, high = bootstrap_mean(numbers, seed=0)
    assert min(numbers) - 1e-9 <= low <= high <= max(numbers) + 1e-9


def test_the_same_seed_gives_the_same_interval() -> None:
    assert bootstrap_mean([1, 2, 5], seed=3) == bootstrap_mean([1, 2, 5], seed=3)


def test_it_agrees_with_the_normal_approximation_on_many_values() -> None:
    # Mean 0.5, standard error sqrt(0.25 / 400) = 0.025: 0.5 ± 1.96 · 0.025.
    low, high = bootstrap_mean([0.0, 1.0] * 200, seed=0)
    assert [low, high] == pytest.approx([0.451, 0.549], abs=0.004)


@pytest.mark.parametrize("bad", [[], [float("nan")], [[1.0]]])
def test_what_is_no_list_of_finite_numbers_is_refused(bad: list[object]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        bootstrap_mean(bad, seed=0)  # type: ignore[arg-type]  # that is the point
