"""MedMCQA in the columns that hubs carry: ``question``, ``opa`` … ``opd``, ``cop``.

``cop`` is the place of the right option, counted from 0; the test split has -1 there, since its
answers are not published, so what is scored is the validation split.
"""

from __future__ import annotations

from corpora.questions.choice import ChoiceQuestion, letter_at, lettered
from corpora.records import Record

OPTIONS = ("opa", "opb", "opc", "opd")
FIELDS = frozenset({"question", "cop", *OPTIONS})


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record; its subset is the subject.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    return ChoiceQuestion(
        id=record.optional_text("id") or str(record.number),
        question=record.text("question"),
        options=lettered([record.text(name) for name in OPTIONS]),
        answer=letter_at(record.whole("cop"), field="cop", options=len(OPTIONS)),
        subset=record.optional_text("subject_name") or "",
        details={
            name: record.fields[name]
            for name in ("choice_type", "topic_name")
            if record.fields.get(name) is not None
        },
    )
