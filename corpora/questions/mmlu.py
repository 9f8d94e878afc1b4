"""MMLU's six medical subjects, which UltraMedical's table has as a column each.

Two layouts: the columns that hubs carry (``question``, ``subject``, ``choices``, ``answer`` from
0), and the original CSV without a line of names: question, four options, letter; its subject is in
the file's name (``anatomy_test.csv``). Of a folder, only the files of these subjects are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion, letter_at, lettered
from corpora.records import Record
from corpora.streams import CSV, OnBad, stop_at_bad, stream_cells, stream_records

SUBJECTS = (
    "clinical_knowledge",
    "medical_genetics",
    "anatomy",
    "professional_medicine",
    "college_biology",
    "college_medicine",
)
"""In the order of UltraMedical's table: CK, MG, An, PM, CB, CM."""

FIELDS = frozenset({"question", "choices", "answer"})
CELLS = 6
"""Of a line of the original: question, four options, letter."""

ALL = "all"
"""The folder in which hubs repeat every subject's questions."""


def choose(files: Sequence[Path]) -> list[Path]:
    """The files of the medical subjects, each question once."""
    medical = [path for path in files if subject_of(path) is not None]
    return medical or list(files)


def subject_of(path: Path) -> str | None:
    """The medical subject that a file's name, or its folder's, stands for."""
    for subject in SUBJECTS:
        if path.parent.name == subject or path.stem.startswith(subject):
            return subject
    return None


def records(path: Path, on_bad: OnBad = stop_at_bad) -> Iterator[Record]:
    """The records of the medical subjects in a file of either layout.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises.
    """
    found = _cells(path, on_bad) if path.suffix in CSV else stream_records(path, on_bad=on_bad)
    for record in found:
        if record.fields.get("subject") in (None, *SUBJECTS):
            yield record


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record; its subset is the subject.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    options = lettered(record.texts("choices"))
    answer = record.fields.get("answer")
    return ChoiceQuestion(
        id=str(record.number),
        question=record.text("question"),
        options=options,
        answer=(
            answer
            if isinstance(answer, str) and answer in options
            else letter_at(record.whole("answer"), field="answer", options=len(options))
        ),
        subset=record.text("subject"),
    )


def _cells(path: Path, on_bad: OnBad) -> Iterator[Record]:
    """The lines of the original CSV, in the fields of the other layout."""
    subject = subject_of(path)
    if subject is None:
        raise CorpusError(
            f"{path}: its name begins with none of {', '.join(SUBJECTS)}; give the original file"
            " of a medical subject"
        )
    try:
        for where, number, cells in stream_cells(path, on_bad):
            if len(cells) != CELLS:
                on_bad(CorpusError(f"{where}: {len(cells)} cells, not {CELLS}; mend it"))
                continue
            question, *choices, answer = cells
            fields = {"question": question, "choices": choices, "answer": answer}
            yield Record(where, number + 1, fields | {"subject": subject})
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error}); name another file") from None
