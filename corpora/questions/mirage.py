"""MIRAGE's layout, which any multiple-choice file can be written in.

One object of ``{"question", "options", "answer"}`` by id; or ``benchmark.json``, an object of such
objects by suite. Where MIRAGE has PubMedQA it asks without the abstract, so its score is not the
one of a table with reasoning required.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.questions.med_qa import read_options
from corpora.records import Record, to_record
from corpora.streams import OnBad, stop_at_bad, stream_records

FIELDS = frozenset({"question", "options", "answer"})
SUITE = "suite"


def records(path: Path, on_bad: OnBad = stop_at_bad) -> Iterator[Record]:
    """The questions of a file, those of ``benchmark.json`` with their ``suite``.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises.
    """
    for record in stream_records(path, on_bad=on_bad):
        if record.name is None or not is_suite(record):
            yield record
        else:
            yield from _members(record, on_bad)


def is_suite(record: Record) -> bool:
    """Whether a record is no question, but holds questions by id."""
    return (
        bool(record.fields)
        and "question" not in record.fields
        and all(isinstance(value, dict) for value in record.fields.values())
    )


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record; its subset is the suite, where there is one.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    return ChoiceQuestion(
        id=record.name or record.optional_text("id") or str(record.number),
        question=record.text("question"),
        options=read_options(record),
        answer=record.text("answer").strip(),
        subset=record.optional_text(SUITE) or "",
    )


def _members(suite: Record, on_bad: OnBad) -> Iterator[Record]:
    for number, (name, value) in enumerate(suite.fields.items(), start=1):
        try:
            record = to_record(f"{suite.where}: question {name}", number, value, name=name)
        except CorpusError as error:
            on_bad(error)
        else:
            fields = {**record.fields, SUITE: suite.name}
            yield Record(record.where, number, fields, name)
