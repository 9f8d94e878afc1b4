"""The words and the number of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.answers.values import number_of, words_of


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("from 3 to 7 mg", 7),
        ("3-7", 7),
        ("It is -3.", -3),
        ("\u22123", -3),
        ("1,234.5 mg", 1234.5),
        ("1\u202f234", 1234),
        ("12,34", 34),
        (".5", 0.5),
        ("p=.05", 0.05),
        ("3.5.", 3.5),
        ("version 1.2.3", 1.2),
        ("5mg", 5),
        ("50%", 0.5),
        ("50 percent", 0.5),
        ("0.5\\%", 0.005),
        ("1.5e3", 1500),
        ("1.5E-3", 0.0015),
        ("1.5 × 10^3", 1500),
        ("1.5 x 10³", 1500),
        ("$1.5 \\times 10^{-3}$", 0.0015),
        ("10^5", 1e5),
        ("COVID-19", 19),
        ("25 kg/m²", 25),
        ("25 kg/m^2", 25),
        ("\\boxed{42}", 42),
    ],
)
def test_the_last_number_is_read(text: str, number: float) -> None:
    assert number_of(text) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text", ["", "none", "B12", "kg/m²", "2^10", "1e999", "9" * 5000])
def test_what_is_no_finite_number_is_none(text: str) -> None:
    assert number_of(text) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(alphabet="abc .,;:\n"))
def test_every_finite_number_is_read_as_it_is_written(number: float, before: str) -> None:
    assert number_of(f"{before.rstrip('abc.,')} {number!r}") == number


@given(st.integers(0, 10**15))
def test_thousands_may_be_set_off(number: int) -> None:
    assert number_of(f"about {number:,}") == number


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Crohn's  Disease!", "crohns disease"),
        ("Sjögren", "sjogren"),
        ("beta-blocker", "beta blocker"),
        ("0.5 mg", "0.5 mg"),
        ("...", None),
    ],
)
def test_words_are_read_without_what_does_not_count(text: str, words: str | None) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize("text", ["answer is 1, " * 9_000, "-" * 40_000, "1,111" * 9_000])
def test_a_hostile_text_is_read_to_its_end(text: str) -> None:
    assert number_of(text + " 7") == 7
    assert (words_of(text + " end") or "").endswith("end")
