"""Which option an answer chooses: a table of awkward answers, and what holds for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.qa.extraction import extract_choice

TABLE = json.loads(Path(__file__).with_name("answers.json").read_text(encoding="utf-8"))
OPTIONS: dict[str, dict[str, str]] = TABLE["options"]
ANSWERS: list[dict[str, Any]] = TABLE["answers"]
DRUGS = OPTIONS["drugs"]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{n}: {case['why']}") for n, case in enumerate(ANSWERS)]
)
def test_an_answer_chooses_what_a_reader_would_say(case: dict[str, Any]) -> None:
    assert extract_choice(case["text"], OPTIONS[case["options"]]) == case["choice"]


def test_the_table_is_long_and_says_nothing_twice() -> None:
    assert len(ANSWERS) > 200
    assert len({(case["options"], case["text"]) for case in ANSWERS}) == len(ANSWERS)
    assert sum(case["choice"] is None for case in ANSWERS) >= 40


def test_a_mention_in_an_answer_that_was_cut_is_no_choice() -> None:
    text = "The patient takes sildenafil, so we first ask what it does to"
    assert extract_choice(text, DRUGS) == "D"
    assert extract_choice(text, DRUGS, is_cut=True) is None
    assert extract_choice("The answer is D. That is beca", DRUGS, is_cut=True) == "D"
    assert extract_choice("B\n\nB\n\nB", DRUGS, is_cut=True) == "B"


def test_letters_beyond_the_options_are_never_chosen() -> None:
    assert extract_choice("The answer is D.", OPTIONS["pubmed"]) is None


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "**{}**", "{})", "\\boxed{{{}}}"]))
def test_the_form_that_is_asked_for_is_always_read(letter: str, form: str) -> None:
    text = f"Some reasoning about the case.\nThe answer is {form.format(letter)}."
    assert extract_choice(text, DRUGS) == letter


@given(st.text(max_size=300), st.sampled_from(sorted(OPTIONS)))
def test_any_text_gives_an_option_or_none(text: str, name: str) -> None:
    assert extract_choice(text, OPTIONS[name]) in (None, *OPTIONS[name])


@given(st.lists(st.sampled_from([*"ABCD", "is", "not", "(", ")", ".", "answer", "\n", "or"])))
def test_any_jumble_of_telling_words_gives_an_option_or_none(words: list[str]) -> None:
    assert extract_choice(" ".join(words), DRUGS) in (None, *DRUGS)


def test_a_long_answer_takes_no_longer_than_it_must() -> None:
    """Patterns that look back and forth would take minutes."""
    text = "A (B) is not the answer, option C: " * 2_000
    assert extract_choice(text + "\nThe answer is (C).", DRUGS) == "C"
    assert extract_choice("answer " * 5_000, DRUGS) is None
    assert extract_choice("A B C D " * 5_000, DRUGS) is None
    assert extract_choice(" " * 20_000 + "*" * 5_000, DRUGS) is None
