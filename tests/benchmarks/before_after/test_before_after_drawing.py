"""Scales and coordinates of the charts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.before_after.changes import change
from benchmarks.before_after.drawing import EDGE, MOST_STEPS, Scale, draw_charts, fit_scale
from benchmarks.before_after.results import Change, Measure
from benchmarks.boards import Leaf

values = st.lists(st.floats(-100, 100), max_size=6)


def drawn(before: list[float], after: list[float], measure: Measure) -> Change:
    first, second = (Leaf(tuple(side)) for side in (before, after))
    return change(first, second, kind="world", mode="greedy", measure=measure, seed=0)


@given(values)
def test_a_scale_holds_every_value_and_zero_at_a_tick(shown: list[float]) -> None:
    scale = fit_scale(shown, least_span=10)
    assert all(EDGE - 0.01 <= scale.at(value) <= 100 - EDGE + 0.01 for value in (0.0, *shown))
    assert min(map(abs, scale.ticks)) < 1e-9
    assert 2 <= len(scale.ticks) <= MOST_STEPS + 1
    assert scale.high - scale.low >= 10 - 1e-9


@pytest.mark.parametrize(
    ("shown", "scale"),
    [
        pytest.param([33.0, 30.1, 36.2], Scale(0, 40, 10), id="a clear gain"),
        pytest.param([-0.3, -1.4, 0.8], Scale(-6, 6, 2), id="noise does not fill the scale"),
        pytest.param([], Scale(-6, 6, 2), id="nothing"),
    ],
)
def test_scales_are_of_round_steps(shown: list[float], scale: Scale) -> None:
    assert fit_scale(shown, least_span=10) == scale


def test_measures_of_one_unit_share_a_chart_and_others_have_their_own() -> None:
    points, nats = draw_charts(
        {
            "clinic world, greedy": drawn([0.2] * 9, [0.6] * 9, "gold"),
            "m, greedy": drawn([1.0] * 9, [0.0] * 9, "accuracy"),
            "clinic world, references": drawn([-1.5] * 9, [-1.4] * 9, "logprob_per_token"),
        }
    )
    assert [row.outcome for row in points.rows] == ["gain", "loss"]
    assert (points.unit, nats.unit) == ("points", "nats a token")
    gain, loss = points.rows
    assert loss.at < points.zero < gain.at
    assert gain.description == "clinic world, greedy: gold +40.0 [40.0, 40.0], gain"
    assert gain.aside == "gold 20.0 → 60.0, 9 questions"
    assert [tick.title for tick in points.ticks] == ["−100", "−50", "0", "+50"]
    assert nats.rows[0].value == "+0.100"
    assert nats.ticks[-1].title == "+0.10"
