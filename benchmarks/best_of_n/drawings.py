"""Curves over N as drawings: from scores to coordinates. Pure; the template draws what is here.

N runs on a scale of doublings, scores on one of tens that holds every curve with its interval.
Coordinates are units of the panel's view box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.best_of_n.curves import Method
from benchmarks.best_of_n.report import NAMES, methods
from benchmarks.best_of_n.results import Curves, Point
from benchmarks.page.drawings import Scale, fit_scale
from benchmarks.tables import bracket, percent

WIDTH, HEIGHT = 470, 300
LEFT, RIGHT, TOP, BOTTOM = 40, 362, 14, 256
"""Between these lie the values; the names of the curves stand to their right."""

APART = 14.0
"""Between the names of two curves that end close to each other."""

GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Tick:
    """A label and its place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a curve, and what it says when pointed at."""

    x: float
    y: float
    title: str
    low: float
    high: float
    """Where its interval ends."""


@dataclass(frozen=True, slots=True)
class Line:
    """The curve of one way of choosing."""

    method: Method
    name: str
    dots: tuple[Dot, ...]
    name_at: float
    """Height at which its name stands."""

    @property
    def path(self) -> str:
        """The points of the line."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.dots)

    @property
    def band(self) -> str:
        """The points around its interval."""
        lower = (f"{dot.x},{dot.low}" for dot in self.dots)
        upper = (f"{dot.x},{dot.high}" for dot in reversed(self.dots))
        return " ".join((*lower, *upper))


@dataclass(frozen=True, slots=True)
class Level:
    """The score of greedy answers, which does not depend on N."""

    at: float
    title: str
    name_at: float


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of one section."""

    lines: tuple[Line, ...]
    """The one that matters most comes last, above the others."""

    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    greedy: Level | None
    description: str
    """The same in words, for those who do not see it."""


def draw_panel(curves: Curves) -> Panel:
    """Lays out the curves of a section."""
    points = [point for each in curves.curves.values() for point in each]
    greedy = curves.greedy.score if curves.greedy else None
    shares = [share for point in points for share in (point.score, *point.ci95)]
    scale = fit_scale(shares if greedy is None else [*shares, greedy])
    plot = _Plot(scale, most=max(point.samples for point in points))
    ends = {method: plot.y(curves.last(method).score) for method in methods(curves)}
    level = () if greedy is None else ((GREEDY, plot.y(greedy)),)
    names = spread([*ends.items(), *level])
    lines = [plot.line(method, curves.curves[method], names[method]) for method in ends]
    return Panel(
        lines=tuple(reversed(lines)),
        columns=tuple(
            Tick(plot.x(point.samples), f"{point.samples}") for point in curves.curves["random"]
        ),
        rows=tuple(Tick(plot.y(tick / 100), f"{tick}") for tick in scale.ticks),
        greedy=None
        if greedy is None
        else Level(plot.y(greedy), f"{GREEDY}: {percent(greedy)}", names[GREEDY]),
        description="; ".join(
            f"{NAMES[method]}: {', '.join(map(_said, curves.curves[method]))}" for method in ends
        ),
    )


def spread(wanted: Iterable[tuple[str, float]], apart: float = APART) -> dict[str, float]:
    """Heights near the wanted ones, in the same order and at least ``apart`` from each other.

    Names that are too close are moved as one, so that each stays about its curve's end.
    """
    blocks: list[list[tuple[str, float]]] = []
    for each in sorted(wanted, key=lambda item: item[1]):
        blocks.append([each])
        while len(blocks) > 1 and _start(blocks[-1], apart) - _end(blocks[-2], apart) < apart:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return {
        name: round(_start(block, apart) + apart * place, 1)
        for block in blocks
        for place, (name, _) in enumerate(block)
    }


def _start(block: Sequence[tuple[str, float]], apart: float) -> float:
    middle = math.fsum(height for _, height in block) / len(block)
    return middle - apart * (len(block) - 1) / 2


def _end(block: Sequence[tuple[str, float]], apart: float) -> float:
    return _start(block, apart) + apart * (len(block) - 1)


def _said(point: Point) -> str:
    return f"{percent(point.score)} of {point.samples}"


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where the things of one panel stand."""

    scale: Scale
    most: int

    def x(self, samples: int) -> float:
        return round(LEFT + math.log2(samples) / math.log2(self.most) * (RIGHT - LEFT), 1)

    def y(self, share: float) -> float:
        part = (100 * share - self.scale.low) / (self.scale.high - self.scale.low)
        return round(BOTTOM - part * (BOTTOM - TOP), 1)

    def line(self, method: Method, points: Iterable[Point], name_at: float) -> Line:
        dots = tuple(
            Dot(
                x=self.x(point.samples),
                y=self.y(point.score),
                title=f"{NAMES[method]}, N = {point.samples}: {percent(point.score)}"
                f" {bracket(point.ci95)}",
                low=self.y(point.ci95[0]),
                high=self.y(point.ci95[1]),
            )
            for point in points
        )
        return Line(method, NAMES[method], dots, name_at)
