"""Figures that others have published for the same benchmarks, to stand beside ours.

The rows are in ``published.toml``: per cent, as printed, never recomputed. A note says what a row
cannot be compared with as it stands: old weights, a pairwise model, an average that does not follow
from its columns.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FIGURES = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A system in a published table."""

    system: str
    source: str
    """The table: paper or leaderboard, with its arXiv number or address."""

    scores: Mapping[str, float]
    """By section or subset of the suite, per cent; those that were not published are not there."""

    overall: float | None = None
    """Per cent, as printed."""

    note: str = ""
    """What to know before comparing; empty if nothing."""


def published(suite: str) -> tuple[PublishedRow, ...]:
    """The published rows of a suite, in their order; none for one that nobody has published.

    Args:
        suite: name of a reward benchmark, or ``medical-qa`` or ``usmle``.
    """
    return _rows().get(suite, ())


def suites_published() -> tuple[str, ...]:
    """The suites that have published rows."""
    return tuple(_rows())


@cache
def _rows() -> dict[str, tuple[PublishedRow, ...]]:
    tables = tomllib.loads(FIGURES.read_text(encoding="utf-8"))
    sources = tables.pop("sources")
    return {
        suite: tuple(PublishedRow(**{**row, "source": sources[row["source"]]}) for row in rows)
        for suite, rows in tables.items()
    }
