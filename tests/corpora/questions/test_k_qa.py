"""K-QA's questions and their statements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpora.errors import CorpusError
from corpora.questions.k_qa import LongFormQuestion, read_long_form

GOOD: dict[str, Any] = {
    "Question": "Is it safe to fly with a cold?",
    "Free_form_answer": "Usually it is.",
    "Must_have": ["Flying with a cold is usually safe", " Ears may hurt "],
    "Nice_to_have": [],
    "ICD_10_diag": "Acute nasopharyngitis",
}


def write(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_a_question_has_its_statements(tmp_path: Path) -> None:
    [question] = read_long_form(write(tmp_path / "k.jsonl", GOOD))
    assert question == LongFormQuestion(
        "q1",
        "Is it safe to fly with a cold?",
        ("Flying with a cold is usually safe", "Ears may hurt"),
        (),
        "Usually it is.",
    )
    assert question.conversation.last == question.question


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"Question": " "}, ":1: Question: empty", id="question"),
        pytest.param({"Must_have": []}, ":1: Must_have: empty; completeness needs", id="none"),
        pytest.param({"Must_have": None}, ":1: Must_have: missing", id="no answers in the file"),
        pytest.param({"Nice_to_have": "a"}, ":1: Nice_to_have: expected a list", id="text"),
    ],
)
def test_a_bad_record_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    source = write(tmp_path / "k.jsonl", GOOD | change, GOOD)
    with pytest.raises(CorpusError, match=message):
        list(read_long_form(source))
    bad: list[CorpusError] = []
    assert [question.id for question in read_long_form(source, on_bad=bad.append)] == ["q2"]
    assert len(bad) == 1
