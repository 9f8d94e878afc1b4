"""Coordinates: everything stands where it can be seen and says what was measured."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.report.charts import (
    BOTTOM,
    LEFT,
    MOST_LABELS,
    RIGHT,
    TOP,
    Measure,
    Reading,
    decimals_of,
    draw_panel,
    nice_ticks,
    slots,
    stack_bars,
)

GOLD = Measure("Gold", "share", "gold", 2, least_span=0.1, bounds=(0, 1))
WINS = Measure("Wins", "share", "proxy", 2, least_span=0.3, bounds=(0, 1), reference=0.5)
PROXY = Measure("Proxy", "reward", "proxy", 2, least_span=0.2)
numbers = st.floats(-1e4, 1e4)


def chain(*values: float, refused: tuple[int, ...] = ()) -> dict[str, Reading]:
    readings = {"base": Reading("base", values[0])}
    parent = "base"
    for number, value in enumerate(values[1:], start=1):
        version = f"r{number}"
        readings[version] = Reading(version, value, number not in refused, parent)
        parent = parent if number in refused else version
    return readings


@given(numbers, st.floats(1e-3, 1e4))
def test_ticks_are_few_even_and_enclose_the_range(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * span
    assert 3 <= len(ticks) <= 7
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert ticks[1] - ticks[0] == pytest.approx(ticks[-1] - ticks[-2], rel=1e-3)


@pytest.mark.parametrize(
    ("ticks", "decimals"), [([0.0, 0.05], 2), ([0.0, 0.1], 1), ([0.0, 1.0], 0), ([0.0, 20.0], 0)]
)
def test_tick_labels_have_the_decimals_that_tell_them_apart(
    ticks: list[float], decimals: int
) -> None:
    assert decimals_of(ticks) == decimals


@given(st.lists(numbers, min_size=1, max_size=30))
def test_every_mark_stands_inside_the_panel(values: list[float]) -> None:
    readings = chain(*values)
    panel = draw_panel(PROXY, list(readings), readings)
    assert len(panel.marks) == len(values)
    assert all(TOP - 0.1 <= mark.y <= BOTTOM + 0.1 for mark in panel.marks)
    assert all(LEFT < mark.x < RIGHT for mark in panel.marks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_the_axis_does_not_leave_what_is_possible(values: list[float]) -> None:
    readings = chain(*values)
    labels = [float(tick.label) for tick in draw_panel(GOLD, list(readings), readings).grid]
    assert min(labels) >= 0
    assert max(labels) <= 1


def test_a_higher_value_stands_higher() -> None:
    readings = chain(0.5, 0.6, 0.7)
    heights = [mark.y for mark in draw_panel(GOLD, list(readings), readings).marks]
    assert heights == sorted(heights, reverse=True)


def test_small_differences_look_small() -> None:
    readings = chain(0.500, 0.502)
    base, other = draw_panel(GOLD, list(readings), readings).marks
    assert abs(base.y - other.y) < 0.05 * (BOTTOM - TOP)


def test_lines_lead_from_the_version_that_was_trained_on() -> None:
    readings = chain(0.5, 0.6, 0.55, 0.7, refused=(2,))
    panel = draw_panel(GOLD, list(readings), readings)
    at = dict(zip(readings, slots(4), strict=True))
    lines = [(link.x1, link.x2, link.is_promoted) for link in panel.links]
    assert lines == [
        (at["base"], at["r1"], True),
        (at["r1"], at["r2"], False),
        (at["r1"], at["r3"], True),
    ]


def test_a_version_that_was_not_measured_keeps_its_place() -> None:
    readings = chain(0.5, 0.6)
    panel = draw_panel(GOLD, ["base", "r1", "r2"], readings)
    assert panel.missing == (slots(3)[2],)
    assert panel.description == "base: 0.50; r1: 0.60; r2: nothing"


def test_intervals_are_drawn_and_told() -> None:
    readings = {"r1": Reading("r1", 0.6, False, "base", (0.55, 0.65))}
    panel = draw_panel(WINS, ["base", "r1"], readings)
    [mark] = panel.marks
    assert mark.whisker is not None
    assert mark.whisker[0] > mark.y > mark.whisker[1]
    assert mark.title == "r1: 0.60 (0.55 to 0.65), refused"
    assert panel.reference is not None
    assert panel.reference > mark.whisker[0]
    assert not panel.links


def test_an_empty_panel_has_no_marks() -> None:
    panel = draw_panel(WINS, ["base"], {})
    assert panel.marks == ()
    assert panel.grid


@given(st.integers(1, 60))
def test_labels_stay_few_and_the_last_version_has_one(count: int) -> None:
    readings = chain(*(0.01 * n for n in range(count)))
    panel = draw_panel(PROXY, list(readings), readings)
    assert 1 <= len(panel.versions) <= MOST_LABELS
    assert panel.versions[-1].label == list(readings)[-1]
    assert sum(mark.label is not None for mark in panel.marks) == len(panel.versions)


def test_labels_keep_off_the_lines() -> None:
    readings = chain(0.5, 0.6, 0.58, 0.7, refused=(2,))
    panel = draw_panel(GOLD, list(readings), readings)
    sides = [mark.label.at > mark.y for mark in panel.marks if mark.label]
    assert sides == [True, False, True, False]


@given(st.lists(st.lists(st.floats(0, 1e5), min_size=1, max_size=5), min_size=1, max_size=5))
def test_stacked_bars_share_one_scale_and_leave_no_gap(rows: list[list[float]]) -> None:
    named = {f"round {n}": {str(i): x for i, x in enumerate(row)} for n, row in enumerate(rows)}
    bars = stack_bars(named)
    ends = [slices[-1].start + slices[-1].width for slices in bars.values()]
    longest = max(sum(row) for row in rows)
    assert max(ends) == pytest.approx(100 if longest else 0, abs=0.05)
    for slices in bars.values():
        for left, right in pairwise(slices):
            assert left.start + left.width == pytest.approx(right.start, abs=0.02)


def test_no_rows_give_no_bars() -> None:
    assert stack_bars({}) == {}
