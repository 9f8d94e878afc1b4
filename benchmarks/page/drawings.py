"""Drawings: from scores to coordinates. Pure; the template draws what is computed here.

A chart is rows of dots on one scale: the model's own with its interval, and those of published
systems. Its coordinates are per cent of the width, so that a phone shows less but nothing smaller.
The reliability diagram is a square of its own units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import Calibration, CalibrationBin, Interval95
from benchmarks.tables import bracket, percent

EDGE = 2.5
"""Per cent of the width that stay free at either end, for dots and the labels of ticks."""

LEAST_SPAN = 20
"""Per cent that a scale shows at least, so that noise does not look like a difference."""

MOST_TICKS = 6

SQUARE = 320
LEFT, RIGHT, TOP, BOTTOM = 44, 306, 14, 276
"""Between these lie the values of the reliability diagram."""

LARGEST_DOT, SMALLEST_DOT = 11.0, 3.0


@dataclass(frozen=True, slots=True)
class Strip:
    """One row: a score, its interval and the scores of others. Shares."""

    name: str
    score: float | None
    interval: Interval95 | None
    n: int
    others: tuple[tuple[str, float], ...] = ()
    """Names and scores; a system may be there twice, from two tables."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A line across the chart, or across some of its rows."""

    name: str
    score: float | None
    rows: tuple[str, ...] = ()
    """Names of the rows; none for all."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot or line, and what it says when pointed at."""

    at: float
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """A strip, ready to be drawn."""

    name: str
    value: str
    interval: str
    n: int
    dot: float | None
    whisker: Interval95 | None
    others: tuple[Mark, ...]
    lines: tuple[Mark, ...]
    description: str
    """The same in words, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Rows on one scale."""

    rows: tuple[Row, ...]
    ticks: tuple[Mark, ...]
    references: tuple[str, ...]
    """What the lines are, for the legend."""

    has_others: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of the reliability diagram: a dot, its distance from the diagonal, its weight."""

    x: float
    y: float
    diagonal: float
    radius: float
    title: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability diagram: what was promised from left to right, what came upwards."""

    bins: tuple[Bin, ...]
    columns: tuple[Mark, ...]
    rows: tuple[Mark, ...]
    diagonal: tuple[float, float, float, float]
    description: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Per cent from ``low`` to ``high``, both multiples of ten."""

    low: int
    high: int

    def at(self, share: float) -> float:
        """Per cent of the width."""
        place = (100 * share - self.low) / (self.high - self.low)
        return round(EDGE + (100 - 2 * EDGE) * place, 2)

    @property
    def ticks(self) -> list[int]:
        """At most ``MOST_TICKS`` of them, evenly apart from the upper end."""
        step = next(s for s in (10, 20, 30, 50) if (self.high - self.low) / s <= MOST_TICKS - 1)
        return list(range(self.high, self.low - 1, -step))[::-1]


def draw_chart(strips: Sequence[Strip], references: Sequence[Reference] = ()) -> Chart:
    """Lays out rows on one scale that holds everything that is shown."""
    known = [line for line in references if line.score is not None]
    scale = fit_scale([*_shown(strips), *(line.score for line in known if line.score is not None)])
    return Chart(
        rows=tuple(_row(strip, known, scale) for strip in strips),
        ticks=tuple(Mark(scale.at(tick / 100), str(tick)) for tick in scale.ticks),
        references=tuple(f"{line.name}: {percent(line.score)} %" for line in known),
        has_others=any(strip.others for strip in strips),
    )


def fit_scale(shares: Sequence[float]) -> Scale:
    """The scale of tens that holds all shares."""
    low = 10 * math.floor(10 * min(shares, default=0.0) + 1e-9)
    high = 10 * math.ceil(10 * max(shares, default=1.0) - 1e-9)
    if high - low < LEAST_SPAN:
        low, high = (low - 10, high) if high >= 100 else (low, high + 10)
    if high - low < LEAST_SPAN:
        low -= 10
    return Scale(low, high)


def reliability(calibration: Calibration) -> Reliability:
    """Lays out the bins that are filled, on a square with the diagonal of honest promises."""
    filled = [one for one in calibration.bins if one.n]
    floor = min([50, *(10 * math.floor(10 * (one.accuracy or 0.0)) for one in filled)])
    most = max(one.n for one in filled)
    return Reliability(
        bins=tuple(_bin(one, floor, most) for one in filled),
        columns=tuple(Mark(_across(tick / 100), str(tick)) for tick in range(50, 101, 10)),
        rows=tuple(
            Mark(_upwards(tick / 100, floor), str(tick))
            for tick in range(floor, 101, 10 if floor >= 30 else 20)
        ),
        diagonal=(LEFT, _upwards(0.5, floor), RIGHT, TOP),
        description="; ".join(_promise(one) for one in filled),
    )


def _shown(strips: Sequence[Strip]) -> list[float]:
    return [
        share
        for strip in strips
        for share in (strip.score, *(strip.interval or ()), *(share for _, share in strip.others))
        if share is not None
    ]


def _row(strip: Strip, references: Sequence[Reference], scale: Scale) -> Row:
    value, interval = percent(strip.score), bracket(strip.interval) if strip.interval else ""
    lines = [one for one in references if not one.rows or strip.name in one.rows]
    return Row(
        name=strip.name,
        value=value,
        interval=interval,
        n=strip.n,
        dot=None if strip.score is None else scale.at(strip.score),
        whisker=strip.interval and (scale.at(strip.interval[0]), scale.at(strip.interval[1])),
        others=tuple(
            Mark(scale.at(share), f"{system}: {percent(share)}") for system, share in strip.others
        ),
        lines=tuple(
            Mark(scale.at(one.score), f"{one.name}: {percent(one.score)}")
            for one in lines
            if one.score is not None
        ),
        description=" ".join(filter(None, (f"{strip.name}: {value}", interval))),
    )


def _bin(one: CalibrationBin, floor: int, most: int) -> Bin:
    assert one.mean_probability is not None, "a filled bin has a mean"
    assert one.accuracy is not None, "a filled bin has an accuracy"
    grown = (LARGEST_DOT - SMALLEST_DOT) * math.sqrt(one.n / most)
    return Bin(
        x=_across(one.mean_probability),
        y=_upwards(one.accuracy, floor),
        diagonal=_upwards(one.mean_probability, floor),
        radius=round(SMALLEST_DOT + grown, 1),
        title=_promise(one),
    )


def _promise(one: CalibrationBin) -> str:
    return (
        f"promised {percent(one.mean_probability)} %, right {percent(one.accuracy)} % of"
        f" {one.n:,} groups"
    )


def _across(probability: float) -> float:
    return round(LEFT + (probability - 0.5) / 0.5 * (RIGHT - LEFT), 1)


def _upwards(accuracy: float, floor: int) -> float:
    return round(BOTTOM - (100 * accuracy - floor) / (100 - floor) * (BOTTOM - TOP), 1)
