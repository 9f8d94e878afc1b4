"""Coordinates of the page's charts: differences with whiskers around zero. Pure.

A chart holds measures of one unit. Places are per cent of the width, so that a phone shows less but
nothing smaller. Scales are of round numbers, always show zero, and never fewer points than a
difference needs to look like one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.before_after.results import Change, Measure, Outcome
from benchmarks.before_after.wording import MEASURES, bracketed, shown, signed

EDGE = 2.5
"""Per cent of the width that stay free at either end."""

MOST_STEPS = 7

LEAST_SPAN: Mapping[str, float] = {"points": 10.0, "nats a token": 0.1, "tokens": 10.0}
"""What a scale shows at least, so that noise does not look like a difference."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on the scale and what stands there."""

    at: float
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """One change, ready to be drawn."""

    name: str
    aside: str
    """What was measured, from where to where, over how many questions."""

    at: float
    whisker: tuple[float, float]
    value: str
    interval: str
    outcome: Outcome | None
    description: str
    """The same in words, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Rows on one scale."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    zero: float
    unit: str


@dataclass(frozen=True, slots=True)
class Scale:
    """From ``low`` to ``high`` in steps, all in the unit that is shown."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Per cent of the width."""
        place = (value - self.low) / (self.high - self.low)
        return round(EDGE + (100 - 2 * EDGE) * place, 2)

    @property
    def ticks(self) -> list[float]:
        """From low to high; zero is among them."""
        first, last = round(self.low / self.step), round(self.high / self.step)
        return [count * self.step for count in range(first, last + 1)]


def draw_charts(changes: Mapping[str, Change]) -> list[Chart]:
    """A chart for each unit, in the order in which units come."""
    by_unit: dict[str, dict[str, Change]] = {}
    for name, change in changes.items():
        by_unit.setdefault(MEASURES[change.measure].unit, {})[name] = change
    return [draw_chart(unit, same) for unit, same in by_unit.items()]


def draw_chart(unit: str, changes: Mapping[str, Change]) -> Chart:
    """Lays out changes of one unit."""
    ends = [
        MEASURES[change.measure].factor * value
        for change in changes.values()
        for value in (change.difference.score, *change.difference.ci95)
    ]
    scale = fit_scale(ends, least_span=LEAST_SPAN[unit])
    places = max(0, -math.floor(math.log10(scale.step) + 1e-9))
    return Chart(
        rows=tuple(_row(name, change, scale) for name, change in changes.items()),
        ticks=tuple(Tick(scale.at(tick), _label(tick, places)) for tick in scale.ticks),
        zero=scale.at(0),
        unit=unit,
    )


def fit_scale(values: Iterable[float], *, least_span: float) -> Scale:
    """The scale of round steps that holds all values and zero."""
    shown_values = [0.0, *values]
    low, high = min(shown_values), max(shown_values)
    if high - low < least_span:
        missing = (least_span - (high - low)) / 2
        low, high = low - missing, high + missing
    step = _round_step((high - low) / (MOST_STEPS - 1))
    return Scale(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), step)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least * (1 - 1e-9))


def _label(tick: float, places: int) -> str:
    text = f"{tick:z.{places}f}".replace("-", "−")
    return f"+{text}" if tick > 0 else text


def _row(name: str, change: Change, scale: Scale) -> Row:
    measure, apart = change.measure, change.difference
    words, factor = MEASURES[measure].name, MEASURES[measure].factor
    value, interval = signed(measure, apart.score), bracketed(measure, apart.ci95)
    low, high = apart.ci95
    return Row(
        name=name,
        aside=f"{words} {_from_to(measure, change)}, {change.n:,} questions",
        at=scale.at(factor * apart.score),
        whisker=(scale.at(factor * low), scale.at(factor * high)),
        value=value,
        interval=interval,
        outcome=change.outcome,
        description=f"{name}: {words} {value} {interval}, {change.outcome or 'no verdict'}",
    )


def _from_to(measure: Measure, change: Change) -> str:
    return f"{shown(measure, change.before.score)} → {shown(measure, change.after.score)}"
