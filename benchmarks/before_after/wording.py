"""How kinds, measures and outcomes are called and written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.before_after.results import Kind, Measure, Outcome
from benchmarks.results import Interval95
from foundation import words


@dataclass(frozen=True, slots=True)
class Wording:
    """A measure for people."""

    name: str
    column: str
    """With its unit, short."""

    unit: str
    """Of a difference."""

    factor: float
    """From the value to what is shown."""

    places: int


MEASURES: Mapping[Measure, Wording] = {
    "gold": Wording("gold", "gold, %", "points", 100, 1),
    "accuracy": Wording("accuracy", "accuracy, %", "points", 100, 1),
    "logprob_per_token": Wording("log-probability", "nats a token", "nats a token", 1, 3),
    "length_tokens": Wording("length", "tokens", "tokens", 1, 1),
    "cut_rate": Wording("cut off", "cut off, %", "points", 100, 1),
}

KINDS: Mapping[Kind, str] = {
    "world": "The run's own world",
    "medical": "Medical questions",
    "general": "General ability",
}

OUTCOMES: Mapping[Outcome, str] = {"gain": "▲ gain", "loss": "▼ loss", "unclear": "unclear"}


def shown(measure: Measure, value: float | None) -> str:
    """The value in its unit."""
    wording = MEASURES[measure]
    return words.decimal(None if value is None else wording.factor * value, wording.places)


def signed(measure: Measure, value: float) -> str:
    """A difference: ``+1.2``, ``−0.4`` or ``0.0``."""
    wording = MEASURES[measure]
    return words.signed(wording.factor * value, wording.places)


def bracketed(measure: Measure, interval: Interval95) -> str:
    """``[0.4, 2.1]``."""
    low, high = (shown(measure, bound) for bound in interval)
    return f"[{low}, {high}]"
