"""Records of MedHallu and MEDEC."""

from __future__ import annotations

from typing import Any

import pytest

from corpora.conversation import Conversation
from corpora.rankings.medec import MEDEC, REQUEST
from corpora.rankings.medhallu import MEDHALLU, MEDHALLU_KNOWLEDGE
from tests.corpora.rankings.reading import detected, read, record_of, refusal

HONEY = {
    "Question": "Does honey ease a child's cough?",
    "Knowledge": ["Children coughed less.", "They slept better."],
    "Ground Truth": "Yes, at night.",
    "Hallucinated Answer": "No, it makes the cough worse.",
    "Difficulty Level": "easy",
    "Category of Hallucination": "Incomplete Information",
}
NOTE = {
    "Text ID": "ms-1",
    "Text": "Sore throat. Given aciclovir. ",
    "Error Flag": "1",
    "Error Type": "treatment",
    "Corrected Text": "Sore throat. Given penicillin.",
}


def test_medhallu_asks_the_question_alone() -> None:
    group = read(MEDHALLU, HONEY, "train")
    assert group.conversation == Conversation.ask("Does honey ease a child's cough?")
    assert group.candidates == ("Yes, at night.", "No, it makes the cough worse.")
    assert (group.id, group.ranks, group.subset) == ("train:7", (1, 2), "easy")
    assert group.details == {"category": "Incomplete Information"}
    assert detected(HONEY) is MEDHALLU


def test_medhallu_can_put_its_knowledge_before_the_question() -> None:
    group = read(MEDHALLU_KNOWLEDGE, HONEY)
    asked = "Children coughed less.\n\nThey slept better.\n\nDoes honey ease a child's cough?"
    assert group.conversation == Conversation.ask(asked)
    assert group.candidates == read(MEDHALLU, HONEY).candidates
    missing = HONEY | {"Knowledge": None}
    assert refusal(MEDHALLU_KNOWLEDGE, missing).startswith("Knowledge: missing")
    assert read(MEDHALLU, missing)


@pytest.mark.parametrize("field", ["Question", "Ground Truth", "Hallucinated Answer"])
def test_a_bad_medhallu_record_is_named(field: str) -> None:
    assert refusal(MEDHALLU, HONEY | {field: None}).startswith(f"{field}: expected text, got None")


def test_medec_prefers_the_corrected_note() -> None:
    group = read(MEDEC, NOTE)
    assert group.conversation == Conversation.ask(REQUEST)
    assert group.candidates == ("Sore throat. Given penicillin.", "Sore throat. Given aciclovir.")
    assert (group.id, group.ranks, group.subset) == ("ms-1", (1, 2), "treatment")
    assert detected(NOTE) is MEDEC


def test_a_note_without_an_error_compares_nothing() -> None:
    fields = NOTE | {"Error Flag": "0", "Error Type": "NA", "Corrected Text": "NA"}
    assert list(MEDEC.parse(record_of(**fields), "test")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Error Flag": "2"}, "Error Flag: 2 says neither yes nor no; give 0 or 1"),
        ({"Error Flag": "yes"}, "Error Flag: expected a whole number, got 'yes'"),
        ({"Corrected Text": "NA"}, "Corrected Text: corrects nothing; give it, or set Error Flag"),
        ({"Corrected Text": " "}, "Corrected Text: corrects nothing"),
        ({"Corrected Text": "Sore throat. Given aciclovir."}, "Corrected Text: corrects nothing"),
        ({"Text": None}, "Text: expected text, got None"),
    ],
)
def test_a_bad_medec_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(MEDEC, NOTE | changes).startswith(message)
