"""Votes, log-likelihoods and prompts: pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.qa.likelihood import continuations, likeliest, option_score
from benchmarks.qa.prompts import LEAD, body, prompt
from benchmarks.qa.voting import agreement, vote
from corpora.questions.choice import ChoiceQuestion

QUESTION = ChoiceQuestion(
    "1", " Does tea help? ", {"A": "yes", "B": "no "}, "A", context=("One.", "Two.")
)

letters = st.lists(st.sampled_from([None, *"ABCD"]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["A", "B", "B"], "B"),
        (["C", "B", "B", "C"], "C"),
        ([None, "B", "A", "A", "B", None], "B"),
        ([None, None, None, "D"], "D"),
        ([None], None),
        ([], None),
    ],
)
def test_most_votes_win_and_of_equals_the_earliest(
    given: list[str | None], expected: str | None
) -> None:
    assert vote(given) == expected


@given(letters)
def test_what_chooses_nothing_has_no_vote(given: list[str | None]) -> None:
    voting = [letter for letter in given if letter is not None]
    assert vote(given) == vote(voting)
    assert (vote(given) is None) == (not voting)
    assert (agreement(given) or 1) * len(voting) == pytest.approx(
        max((voting.count(letter) for letter in voting), default=0)
    )


@given(letters, st.sampled_from("ABCD"))
def test_another_vote_for_the_winner_changes_nothing(given: list[str | None], letter: str) -> None:
    winner = vote([*given, letter])
    assert vote([*given, letter, winner]) == winner


@pytest.mark.parametrize(
    ("normalise", "expected"), [("none", -6.0), ("tokens", -2.0), ("bytes", -1.5)]
)
def test_the_score_of_an_option_is_the_sum_or_the_mean_a_token_or_byte(
    normalise: str, expected: float
) -> None:
    given = option_score([-1.0, -2.0, -3.0], "été"[:2] + "e", normalise=normalise)  # type: ignore[arg-type]  # the parameters are of the closed set
    assert given == expected


def test_the_likeliest_option_is_chosen_and_of_equals_the_first() -> None:
    assert likeliest({"A": -2.0, "B": -1.0, "C": -1.0}) == "B"


def test_letters_are_scored_with_all_options_in_sight_and_texts_with_none() -> None:
    by_letter, by_text = continuations(QUESTION, "letter"), continuations(QUESTION, "text")
    assert (by_letter.lead, by_letter.texts) == (LEAD, {"A": "A)", "B": "B)"})
    assert (by_text.lead, by_text.texts) == ("", {"A": "yes", "B": "no"})
    assert "(B) no" in prompt(QUESTION, form="chat", wanted="letter").last
    assert "(B)" not in prompt(QUESTION, form="chat", wanted="text").last


def test_a_question_is_asked_with_its_abstract_and_how_to_end() -> None:
    asked = prompt(QUESTION, form="chat", wanted="reasoning")
    assert len(asked.messages) == 1
    assert asked.last.startswith("Abstract: One.\nTwo.\n\nQuestion: Does tea help?\n\n(A) yes\n(B)")
    assert "The answer is (X)." in asked.last
    bare = ChoiceQuestion("1", "q", {"A": "x", "B": "y"}, "A")
    assert body(bare, has_options=True) == "Question: q\n\n(A) x\n(B) y"


def test_the_instruction_form_is_alpacas() -> None:
    asked = prompt(QUESTION, form="instruction", wanted="letter").last
    assert asked.startswith("Below is an instruction that describes a task, paired with an input")
    parts = [asked.index(f"### {part}:\n") for part in ("Instruction", "Input", "Response")]
    assert parts == sorted(parts)
    assert asked.endswith("### Response:\n")
