"""PubMedQA, expert-labelled, reasoning required: the question is asked with its abstract.

Two layouts: the original, one object of ``{"QUESTION", "CONTEXTS", "final_decision"}`` by PubMed
id, and the columns that hubs carry, with ``pubid``, ``question`` and ``context.contexts``. The
options are yes, no and maybe, in this order. Of a folder that holds the set's artificial and
unlabelled parts as well, only the labelled one is read.

The original file holds 1,000 questions, of which the official test part is the 500 whose ids stand
in a file of their own (``test_ground_truth.json``): :func:`read_ids` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.records import Record

FIELDS = frozenset({"QUESTION", "CONTEXTS", "final_decision"})
COLUMNS = frozenset({"question", "context", "final_decision"})
LABELLED = ("ori_pqal", "pqa_labeled")
"""What the original calls its file of expert labels, and hubs their folder of them."""

OPTIONS = {"A": "yes", "B": "no", "C": "maybe"}


def choose(files: Sequence[Path]) -> list[Path]:
    """The files with expert labels, where their names tell."""
    labelled = [path for path in files if {path.stem, path.parent.name} & set(LABELLED)]
    return labelled or list(files)


def parse(record: Record) -> ChoiceQuestion:
    """The question of a record, with the paragraphs of its abstract but for the conclusion.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    is_original = "QUESTION" in record.fields
    return ChoiceQuestion(
        id=_id(record),
        question=record.text("QUESTION" if is_original else "question"),
        options=OPTIONS,
        answer=_decision(record),
        context=tuple(record.texts("CONTEXTS") if is_original else _nested_contexts(record)),
    )


def read_ids(path: Path) -> frozenset[str]:
    """The ids in a JSON list, in the keys of a JSON object, or one a line.

    Raises:
        CorpusError: if the file cannot be read or holds no id.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); name a file of ids") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = text.split()
    ids = (
        frozenset(map(str, content))
        if isinstance(content, list | dict)
        else frozenset({text.strip()})
    )
    if not ids:
        raise CorpusError(f"{path}: no id in it; give a JSON list or object, or one id a line")
    return ids


def _id(record: Record) -> str:
    given = record.name if record.name is not None else record.fields.get("pubid")
    return str(record.number if given is None else given)


def _decision(record: Record) -> str:
    decision = record.text("final_decision").strip().casefold()
    for letter, option in OPTIONS.items():
        if decision == option:
            return letter
    raise CorpusError(f"final_decision: {decision!r:.60} is none of yes, no, maybe; mend it")


def _nested_contexts(record: Record) -> list[str]:
    context = record.fields.get("context")
    if not isinstance(context, dict):
        raise CorpusError(
            f"{record.where}: context: expected an object with contexts, got {context!r:.60}"
        )
    return Record(record.where, record.number, context).texts("contexts")
