"""Any file of ranked candidates, and NeMo's layout for the same.

    {"id": "q1", "prompt": "What helps a stuffy nose?", "subset": "nose",
     "candidates": ["Saline.", "A walk.", "Antibiotics."], "ranks": [1, 2, 2]}

    {"context": [{"role": "user", "content": "What helps a stuffy nose?"}], "task_name": "nose",
     "completions": [{"rank": 0, "completion": [{"role": "assistant", "content": "Saline."}]},
                     {"rank": 1, "completion": [{"role": "assistant", "content": "A walk."}]}]}

Lower ranks are better, equal ones a tie. They are counted from 1; NeMo's from any number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from corpora.errors import CorpusError
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.pairs import PROMPTS
from corpora.rankings.turns import Answer, find_field, join, read_id, refuse, to_answer
from corpora.records import Record


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    completed = record.fields.get("completions") is not None
    ranks, answers = _completions(record) if completed else _candidates(record)
    heads = {answer.head for answer in answers}
    if len(heads) > 1:
        refuse(record, "completions", "answer different conversations; rank them apart")
    prompt = "context" if completed else find_field(record, *PROMPTS)
    conversation = join(record, prompt, heads.pop() if heads else ())
    subset = record.optional_text("task_name" if completed else "subset") or ""
    texts = tuple(answer.text for answer in answers)
    try:
        yield RankedGroup(read_id(record, part, "id"), conversation, texts, ranks, subset)
    except CorpusError as error:
        raise CorpusError(f"{record.where}: {error}") from None


def _candidates(record: Record) -> tuple[tuple[int, ...], list[Answer]]:
    ranks = record.fields.get("ranks")
    if not isinstance(ranks, list):
        problem = "missing" if ranks is None else f"expected a list, got {ranks!r:.60}"
        refuse(record, "ranks", f"{problem}; give the rank of each candidate")
    answers = [Answer((), text) for text in record.texts("candidates")]
    return tuple(_rank(record, "ranks", rank) for rank in ranks), answers


def _completions(record: Record) -> tuple[tuple[int, ...], list[Answer]]:
    rows = record.fields["completions"]
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        refuse(record, "completions", f"expected a list of objects, got {rows!r:.60}; mend it")
    ranks = [_rank(record, "completions.rank", row.get("rank")) for row in rows]
    answers = [to_answer(record, "completions.completion", row.get("completion")) for row in rows]
    return tuple(rank - min(ranks) + 1 for rank in ranks), answers


def _rank(record: Record, field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(record, field, f"expected whole numbers, got {value!r:.60}; give 1 for the best")
    return value


RANKED = Format(
    "ranked",
    "prompt (text or messages), candidates (list), ranks (list, 1 is best); or NeMo's completions",
    parse,
    frozenset(
        {"id", "subset", "candidates", "ranks", "context", "completions", "task_name", *PROMPTS}
    ),
    lambda fields: has("candidates", "ranks")(fields) or has("context", "completions")(fields),
)
