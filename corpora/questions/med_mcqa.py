"""MedMCQA in the columns that hubs carry: ``question``, ``opa`` … ``opd``, ``cop``.

``cop`` is the place of the right option, counted from 0; the test split has -1 there, since its
answers are not published, so what is scored is the validation split. The original release counts
from 1 in the same fields: a file that does is refused, since only its fourth options would show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion, letter_at, lettered
from corpora.records import Record
from corpora.streams import OnBad, stop_at_bad, stream_records

OPTIONS = ("opa", "opb", "opc", "opd")
FIELDS = frozenset({"question", "cop", *OPTIONS})


def records(path: Path, on_bad: OnBad = stop_at_bad) -> Iterator[Record]:
    """The records of a file that counts options from 0.

    Raises:
        CorpusError: naming the file that cannot be read or counts from 1; what ``on_bad`` raises.
    """
    for record in stream_records(path, on_bad=on_bad):
        if record.fields.get("cop") in (len(OPTIONS), str(len(OPTIONS))):
            raise CorpusError(
                f"{record.where}: cop: {len(OPTIONS)} says that the file counts from 1, as the"
                " original release does; give the columns that hubs carry, which count from 0"
            )
        yield record


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
