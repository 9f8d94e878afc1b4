"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import words
from foundation.words import SPACE


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.314, "−0.31"), (1234.5, "1,234.50"), (-0.001, "0.00"), (None, "–"), (0, "0.00")],
)
def test_decimal(value: float | None, text: str) -> None:
    assert words.decimal(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.26, "+0.26"), (-0.04, "−0.04"), (0.0, "0.00"), (-0.001, "0.00"), (None, "–")],
)
def test_signed(value: float | None, text: str) -> None:
    assert words.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.012, "12 ms"),
        (0.9, "0.9 s"),
        (4.24, "4.2 s"),
        (42.4, "42 s"),
        (192, "3 min 12 s"),
        (3900, "1 h 05 min"),
        (3599.7, "1 h 00 min"),
        (None, "–"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds).replace(SPACE, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.1e-6, "4.1 × 10⁻⁶"), (0.05, "0.050"), (1.2e-12, "1.2 × 10⁻¹²"), (0, "0"), (None, "–")],
)
def test_tiny(value: float | None, text: str) -> None:
    assert words.tiny(value).replace(SPACE, " ") == text


@given(st.floats(0, 1e7))
def test_a_duration_never_shows_sixty_of_anything(seconds: float) -> None:
    assert not set(words.duration(seconds).split(SPACE)[2:]) & {"60"}


@pytest.mark.parametrize(
    ("clauses", "text"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), ([], "")],
)
def test_listed(clauses: list[str], text: str) -> None:
    assert words.listed(clauses) == text


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 group"), (0, "0 groups"), (2_985, "2,985 groups")]
)
def test_count(number: int, text: str) -> None:
    assert words.count(number, "group").replace(SPACE, " ") == text
