"""What a text answers, and what is unclear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.scorers.answers import choice_of, number_of, words_of


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
def test_an_option_is_read(text: str, choice: str) -> None:
    assert choice_of(text) == choice


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
def test_an_option_that_is_unclear_is_none(text: str) -> None:
    assert choice_of(text) is None


@given(st.text(alphabet="ABCab ()*_.,:\n\\{}boxed answer is or not option") | st.text())
def test_any_text_names_one_option_or_none(text: str) -> None:
    assert choice_of(text) in {None, *"ABCDEFGHIJ"}


@given(
    letter=st.sampled_from("ABCDEFGHIJ"),
    frame=st.sampled_from(["{}", "({})", "**{}**", "Answer: {}", "The answer is ({}).", "{}) x"]),
    is_lower=st.booleans(),
)
def test_an_option_is_read_in_either_case(letter: str, frame: str, is_lower: bool) -> None:
    assert choice_of(frame.format(letter.lower() if is_lower else letter)) == letter


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
]


@pytest.mark.parametrize(
    "text",
    HOSTILE,
    ids=lambda text: repr(text[:12]),
)
def test_a_hostile_text_is_read_to_its_end(text: str) -> None:
    assert choice_of(text) in {None, "A"}
    number_of(text)
    words_of(text)
