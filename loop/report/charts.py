"""Charts: from numbers to coordinates. Pure; the template draws what is computed here.

A panel shows one measure over the policy versions. A line joins a version to the one that it was
trained from, so promoted versions are a trunk and a refused one is a branch that ends. Coordinates
are units of the panel's view box, ``WIDTH`` by ``HEIGHT``; those of bars are percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foundation.words import Interval, decimal, span

WIDTH, HEIGHT = 320, 196
LEFT, RIGHT = 46, 308
TOP, BOTTOM = 32, 146
"""Between these lie the values; their labels may stand a little outside."""

MARGIN = 14
MOST_LABELS = 6
"""With more versions than this, only every second, third, … is labelled."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a panel shows, and how."""

    title: str
    unit: str
    color: str
    """A colour of the style sheet, by name."""
    decimals: int
    least_span: float
    """The axis never spans less, so that noise does not look like a trend."""
    bounds: Interval = (-math.inf, math.inf)
    """The axis does not go beyond what is possible."""
    reference: float | None = None
    """Where a line says "no difference"."""
    absent: str = "Not measured yet."
    """What to say when there is no value at all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a policy version measures."""

    version: str
    value: float
    is_promoted: bool = True
    parent: str | None = None
    """The version that it was trained from."""
    interval: Interval | None = None

    @property
    def low(self) -> float:
        return self.interval[0] if self.interval else self.value

    @property
    def high(self) -> float:
        return self.interval[1] if self.interval else self.value


@dataclass(frozen=True, slots=True)
class Tick:
    """A label and its place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A reading: filled if the version was promoted, else hollow. ``whisker`` is its interval."""

    x: float
    y: float
    is_promoted: bool
    title: str
    label: Tick | None
    whisker: Interval | None


@dataclass(frozen=True, slots=True)
class Link:
    """The line to a version from the one that it was trained from."""

    x1: float
    y1: float
    x2: float
    y2: float
    is_promoted: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure, ready to be drawn."""

    measure: Measure
    description: str
    """The same in words, for those who do not see it."""
    versions: tuple[Tick, ...]
    missing: tuple[float, ...]
    """Where versions stand that were not measured."""
    marks: tuple[Mark, ...]
    links: tuple[Link, ...]
    grid: tuple[Tick, ...]
    reference: float | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a stacked bar, in percent of the chart's width."""

    name: str
    start: float
    width: float
    amount: float


def draw_panel(measure: Measure, versions: Sequence[str], readings: Mapping[str, Reading]) -> Panel:
    """Lays out a measure.

    Args:
        measure: what is shown.
        versions: every policy version, from left to right.
        readings: by version; one that was not measured is not in it.
    """
    ticks = fit_axis(measure, list(readings.values()))
    plot = _Plot(measure, versions, readings, ends=(ticks[0], ticks[-1]))
    linked = [reading for reading in readings.values() if reading.parent in readings]
    return Panel(
        measure=measure,
        description="; ".join(
            describe(measure, readings[version]) if version in readings else f"{version}: nothing"
            for version in versions
        ),
        versions=tuple(Tick(plot.x[version], version) for version in plot.labelled),
        missing=tuple(plot.x[version] for version in versions if version not in readings),
        marks=tuple(plot.mark(reading) for reading in readings.values()),
        links=tuple(plot.link(reading) for reading in linked),
        grid=tuple(Tick(plot.y(tick), decimal(tick, decimals_of(ticks))) for tick in ticks),
        reference=None if measure.reference is None else plot.y(measure.reference),
    )


def describe(measure: Measure, reading: Reading) -> str:
    """A reading in words: ``r2: 0.61 (0.55 to 0.67), refused``."""
    interval = f" ({span(reading.interval, measure.decimals)})" if reading.interval else ""
    refused = "" if reading.is_promoted else ", refused"
    return f"{reading.version}: {decimal(reading.value, measure.decimals)}{interval}{refused}"


def fit_axis(measure: Measure, readings: Sequence[Reading]) -> list[float]:
    """Ticks of an axis that holds every reading, its interval and the measure's reference."""
    fixed = [measure.reference] if measure.reference is not None else []
    shown = [*fixed, *(end for r in readings for end in (r.low, r.value, r.high))] or [0.0]
    low, high = min(shown), max(shown)
    slack = max(measure.least_span - (high - low), 0.0) / 2
    floor, ceiling = measure.bounds
    high = min(max(high + slack, floor + measure.least_span), ceiling)
    low = max(min(low - slack, ceiling - measure.least_span), floor)
    return nice_ticks(low, high)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, evenly apart, that enclose ``low < high``."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def decimals_of(ticks: Sequence[float]) -> int:
    """Decimals that tell neighbouring ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def slots(number: int) -> list[float]:
    """Where versions stand from left to right: the middles of equal parts of the panel.

    The margin keeps the label of the first one clear of the axis.
    """
    part = (RIGHT - LEFT - MARGIN) / number
    return [round(LEFT + MARGIN + part * (index + 0.5), 1) for index in range(number)]


def stack_bars(rows: Mapping[str, Mapping[str, float]]) -> dict[str, list[Slice]]:
    """Stacked bars on one scale: the longest row fills the width."""
    longest = max((sum(parts.values()) for parts in rows.values()), default=0.0) or 1.0
    return {name: _stack(parts, longest) for name, parts in rows.items()}


def _stack(parts: Mapping[str, float], longest: float) -> list[Slice]:
    slices: list[Slice] = []
    before = 0.0
    for name, amount in parts.items():
        start, width = 100 * before / longest, 100 * amount / longest
        slices.append(Slice(name, round(start, 2), round(width, 2), amount))
        before += amount
    return slices


class _Plot:
    """Where the things of one panel stand."""

    def __init__(
        self,
        measure: Measure,
        versions: Sequence[str],
        readings: Mapping[str, Reading],
        *,
        ends: Interval,
    ) -> None:
        stride = math.ceil(len(versions) / MOST_LABELS)
        self.x = dict(zip(versions, slots(len(versions)), strict=True))
        self.labelled = versions[::-stride][::-1]  # counted from the end: the last one always is
        self._measure = measure
        self._readings = readings
        self._ends = ends

    def y(self, value: float) -> float:
        low, high = self._ends
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    def mark(self, reading: Reading) -> Mark:
        return Mark(
            x=self.x[reading.version],
            y=self.y(reading.value),
            is_promoted=reading.is_promoted,
            title=describe(self._measure, reading),
            label=self._label(reading) if reading.version in self.labelled else None,
            whisker=(self.y(reading.low), self.y(reading.high)) if reading.interval else None,
        )

    def link(self, reading: Reading) -> Link:
        assert reading.parent is not None, "only a reading with a parent has a line to it"
        origin = self._readings[reading.parent]
        return Link(
            self.x[origin.version],
            self.y(origin.value),
            self.x[reading.version],
            self.y(reading.value),
            reading.is_promoted,
        )

    def _label(self, reading: Reading) -> Tick:
        """Below the mark where its line comes from above or leaves upwards, else above it."""
        y = self.y(reading.low) + 18 if self._is_under_line(reading) else self.y(reading.high) - 10
        return Tick(round(y, 1), decimal(reading.value, self._measure.decimals))

    def _is_under_line(self, reading: Reading) -> bool:
        origin = self._readings.get(reading.parent or "")
        if origin and reading.value < origin.value:
            return True
        rivals = [r for r in self._readings.values() if r.parent == reading.parent and r != reading]
        heirs = [r for r in self._readings.values() if r.parent == reading.version]
        above = rivals if origin else heirs
        return any(other.value > reading.value for other in above)
