"""MedQA, the USMLE part: ``question``, ``options`` by letter, ``answer_idx``, ``meta_info``.

Both the four-option form that hubs carry and the five-option form of the original release
(``jind11/MedQA``, JSON lines) are laid out so. ``meta_info`` is the exam's step.
"""

from __future__ import annotations

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.records import Record

FIELDS = frozenset({"question", "options", "answer_idx"})


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record; its id is its place, since the data has none.

    Raises:
        CorpusError: naming the place and the field that does not fit.
    """
    return ChoiceQuestion(
        id=record.optional_text("id") or str(record.number),
        question=record.text("question"),
        options=read_options(record),
        answer=record.text("answer_idx").strip(),
        subset=record.optional_text("meta_info") or "",
    )


def read_options(record: Record) -> dict[str, str]:
    """The options of a record that gives them by letter, in the order of the letters.

    Columnar files give every record every letter that any has: one without text is left out.

    Raises:
        CorpusError: if it is no object of texts.
    """
    options = record.fields.get("options")
    if not isinstance(options, dict):
        problem = f"expected an object, got {options!r:.60}" if options is not None else "missing"
        raise CorpusError(
            f"{record.where}: options: {problem}; give every record its options by letter"
        )
    found = {str(letter).strip(): text for letter, text in options.items() if text is not None}
    for letter, text in found.items():
        if not isinstance(text, str):
            raise CorpusError(
                f"{record.where}: options.{letter}: expected text, got {text!r:.60}; mend it"
            )
    return {letter: found[letter] for letter in sorted(found)}
