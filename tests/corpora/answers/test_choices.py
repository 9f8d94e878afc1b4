"""Which option an answer chooses: a table of awkward answers, and what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.answers.choices import LETTERS, extract_choice

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


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        # What a statement of the answer looks like
        ("The answer is (B).", "B"),
        ("Answer: b", "B"),
        ("**Answer:** C", "C"),
        ("**Answer**: C", "C"),
        ("ANSWER: (J)", "J"),
        ("Answer - B", "B"),
        ("Answer：（B）", "B"),
        ("The answer is “B”", "B"),
        ("The answer is \\(B\\)", "B"),
        ("The answer is\n\nB\n", "B"),
        ("So the answer is: \n\n**C) Heparin**", "C"),
        ("<answer>D</answer>", "D"),
        ("<answer> D. Heparin </answer>", "D"),
        ("Therefore, the correct answer to this question is option (C): heparin", "C"),
        ("The answer is: The correct option is B", "B"),
        ("The answer is most likely D, given the rash.", "D"),
        ("The answer is A because it works", "A"),
        ("The best choice is C, because A and B fail", "C"),
        ("option C is correct, not A", "C"),
        ("A is correct", "A"),
        ("B is correct. A is wrong.", "B"),
        ("Neither A nor B is correct, so C is the best answer", "C"),
        ("I would go with option D.", "D"),
        ("I choose A, a beta blocker", "A"),
        ("The answer is not A but C", "C"),
        ("The answer is E. Escherichia coli", "E"),
        # What is said last, and what is ruled out
        ("The answer is A. Wait, the answer is B.", "B"),
        ("The answer is B, not A", "B"),
        ("The answer is (B) rather than (A) or (C)", "B"),
        ("The answer is B.\n\nA, C and D are wrong", "B"),
        ("The correct option is B, and C is incorrect.", "B"),
        ("If option A is correct, fever is rare. The answer is C", "C"),
        # Boxes come first, whatever is said beside them
        ("So \\boxed{B}", "B"),
        ("$\\boxed{\\text{C}}$ although the answer is A", "C"),
        ("\\boxed{\\textbf{(C) Heparin}}", "C"),
        ("\\boxed{A} or rather \\boxed{B}", "B"),
        ("Final answer: the final answer is $\\boxed{E}$", "E"),
        ("\\boxed{5 mg}. The answer is D", "D"),
        ("\\boxed{B", "B"),
        # Bold and labels
        ("**B**", "B"),
        ("__B__", "B"),
        ("Of these, **C) Heparin** fits best.", "C"),
        ("b", "B"),
        ("B)", "B"),
        ("(B) Aspirin", "B"),
        ("- B) Aspirin", "B"),
        ("Option B", "B"),
        ("B. Aspirin\n\nIt does what A does not.", "B"),
    ],
)
def test_a_letter_is_read_where_no_option_s_text_is_known(text: str, choice: str) -> None:
    assert extract_choice(text) == choice


@pytest.mark.parametrize(
    "text",
    [
        # Nothing named
        "",
        "It depends.",
        "Answer: K",
        "I think so",
        "A 45-year-old man",
        "Aspirin",
        # Letters that are none
        "The answer is a beta blocker",
        "The answer is A beta blocker",
        "The answer is D-dimer",
        "The answer is vitamin D",
        "The answer is E. coli",
        "C. difficile",
        "The answer is B cell lymphoma",
        "hepatitis B is the correct diagnosis",
        "\\boxed{25 mg}",
        # Only ruled out
        "The answer is not A",
        "The answer is definitely not B",
        "It is not the answer: A",
        "Incorrect answer: A",
        "I wouldn't choose B.",
        "Option A is incorrect.",
        "B) is wrong",
        # More than one
        "The answer is A or B",
        "The answer is B/C",
        "answer: A and B",
        "the answer is both A and C",
        "Both A and C are correct",
        "The answer is (A) aspirin or (B) heparin",
        "\\boxed{A, B}",
        "A, B",
        "**A** has a point, **B** too",
        "A) aspirin\nB) heparin\nC) saline\nI think heparin",
    ],
)
def test_a_letter_that_is_unclear_is_none(text: str) -> None:
    assert extract_choice(text) is None


@given(st.text(alphabet="ABCab ()*_.,:\n\\{}boxed answer is or not option") | st.text())
def test_any_text_names_one_letter_or_none(text: str) -> None:
    assert extract_choice(text) in {None, *"ABCDEFGHIJ"}


@given(
    letter=st.sampled_from("ABCDEFGHIJ"),
    frame=st.sampled_from(["{}", "({})", "**{}**", "Answer: {}", "The answer is ({}).", "{}) x"]),
    is_lower=st.booleans(),
)
def test_a_letter_is_read_in_either_case(letter: str, frame: str, is_lower: bool) -> None:
    assert extract_choice(frame.format(letter.lower() if is_lower else letter)) == letter


HOSTILE = [
    "answer " * 9_000,
    "Answer:" + "(" * 40_000,
    "answer is A, " * 9_000,
    "A or " * 9_000,
    "-" * 40_000,
    "\n " * 9_000,
    "**a " * 9_000,
    "__" * 9_000,
    "\\boxed{" * 9_000,
    "1,111" * 9_000,
    "A (B) is not the answer, option C: " * 2_000,
    "A B C D " * 5_000,
    "(B) neither " * 4_000,
    "K, is correct " * 3_000,
    "Question: " * 4_000,
    " " * 20_000 + "*" * 5_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("options", [LETTERS, DRUGS], ids=["letters", "texts"])
def test_a_hostile_text_is_read_to_its_end(text: str, options: Mapping[str, str]) -> None:
    """Patterns that look back and forth would take minutes."""
    assert extract_choice(text, options) in (None, "A", "B")
    assert extract_choice(text + "\nThe answer is (C).", options) == "C"


@pytest.mark.parametrize(
    "text", ["answer " * 5_000, "A B C D " * 5_000, " " * 20_000 + "*" * 5_000, "\n " * 9_000]
)
def test_a_long_text_that_says_nothing_chooses_nothing(text: str) -> None:
    assert extract_choice(text, DRUGS) is None
