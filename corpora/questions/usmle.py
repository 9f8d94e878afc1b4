"""USMLE self-assessment in medAlpaca's form: questions here, solutions in a file beside them.

``step1.json`` is a list of ``{"no", "question", "options"}`` and ``step1_solutions.json`` an object
of letters by number. ``question_with_images.json``, where it lies beside them, lists by step the
numbers of questions that cannot be answered without their picture: medAlpaca leaves them out, and
so does this reader (``eval/eval_models.ipynb`` in kbressem/medAlpaca).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.questions.med_qa import read_options
from corpora.records import Record
from corpora.streams import OnBad, stop_at_bad, stream_records

FIELDS = frozenset({"no", "question", "options"})
SOLUTIONS = "_solutions"
IMAGES = "question_with_images"


def choose(files: Sequence[Path]) -> list[Path]:
    """The files with questions."""
    return [path for path in files if path.stem != IMAGES and not path.stem.endswith(SOLUTIONS)]


def records(path: Path, on_bad: OnBad = stop_at_bad) -> Iterator[Record]:
    """The questions of one step that need no picture, each with its solution as ``answer``.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises.
    """
    solutions = _read_object(path.with_name(f"{path.stem}{SOLUTIONS}.json"))
    with_picture = _with_picture(path)
    for record in stream_records(path, on_bad=on_bad):
        if str(record.fields.get("no")) not in with_picture:
            answer = solutions.get(str(record.fields.get("no")))
            fields = {**record.fields, "answer": answer, "step": path.stem}
            yield Record(record.where, record.number, fields)


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record; its subset is the step.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    number = record.whole("no")
    answer = record.fields.get("answer")
    if not isinstance(answer, str):
        raise CorpusError(f"no: {number} has no letter among the solutions; add it there")
    return ChoiceQuestion(
        id=f"{record.text('step')}-{number}",
        question=record.text("question"),
        options=read_options(record),
        answer=answer.strip().upper(),
        subset=record.text("step"),
    )


def _with_picture(path: Path) -> frozenset[str]:
    images = path.with_name(f"{IMAGES}.json")
    if not images.is_file():
        return frozenset()
    numbers = _read_object(images).get(path.stem, [])
    if not isinstance(numbers, list):
        raise CorpusError(
            f"{images}: {path.stem}: expected a list of numbers, got {numbers!r:.60}; mend it"
        )
    return frozenset(map(str, numbers))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{path}: cannot be read as JSON ({error}); keep it beside the questions"
        ) from None
    if not isinstance(content, dict):
        raise CorpusError(f"{path}: expected a JSON object, got {content!r:.60}; mend it")
    return content
