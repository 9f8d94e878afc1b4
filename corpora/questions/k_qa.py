"""K-QA's answered questions: what a good answer says, statement by statement (arXiv 2401.14493).

    {"Question": "Can I take ibuprofen with …?", "Free_form_answer": "Yes, …",
     "Must_have": ["Ibuprofen may be …"], "Nice_to_have": ["Taking it with food …"], …}

A statement is must-have if an answer without it would be unsafe or of little use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.records import Record
from corpora.sources import find_files
from corpora.streams import OnBad, stop_at_bad, stream_records


@dataclass(frozen=True, slots=True)
class LongFormQuestion:
    """A question of a patient, with the statements that physicians hold its answer to."""

    id: str
    question: str
    must_have: tuple[str, ...]
    """At least one."""

    nice_to_have: tuple[str, ...]
    reference: str | None = None
    """The physicians' own answer."""

    @property
    def conversation(self) -> Conversation:
        return Conversation.ask(self.question)


def read_long_form(source: str, *, on_bad: OnBad = stop_at_bad) -> Iterator[LongFormQuestion]:
    """The questions of a file, folder or hub name, one at a time; the id is ``q`` and the number.

    Args:
        source: where they are.
        on_bad: takes the error of a record that is none.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises.
    """
    number = 0
    for file in find_files(source):
        for record in stream_records(file, on_bad=on_bad):
            number += 1
            try:
                yield _question(record, f"q{number}")
            except CorpusError as error:
                on_bad(error)


def _question(record: Record, name: str) -> LongFormQuestion:
    question = record.text("Question").strip()
    must_have = _statements(record, "Must_have")
    if not question:
        raise CorpusError(f"{record.where}: Question: empty; give every record a question")
    if not must_have:
        raise CorpusError(
            f"{record.where}: Must_have: empty; completeness needs at least one statement"
        )
    return LongFormQuestion(
        id=name,
        question=question,
        must_have=must_have,
        nice_to_have=_statements(record, "Nice_to_have"),
        reference=record.optional_text("Free_form_answer"),
    )


def _statements(record: Record, field: str) -> tuple[str, ...]:
    return tuple(text.strip() for text in record.texts(field) if text.strip())
