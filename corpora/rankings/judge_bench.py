"""JudgeBench's records: two responses of one model to a question with a known answer.

    {"pair_id": "5f0c", "original_id": 3, "source": "mmlu-pro-health",
     "question": "Which vitamin prevents scurvy? (A) B12 (B) C", "response_model": "model-a",
     "response_A": "Vitamin B12, so A.", "response_B": "Vitamin C, so B.", "label": "B>A"}

The published set is ``ScalerLab/JudgeBench``, with a split for each model that responded.
Candidates stay in the file's order. The source of the question is the subset.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id, refuse
from corpora.records import Record

RANKS = {"A>B": (1, 2), "B>A": (2, 1)}


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    label = record.text("label")
    if label not in RANKS:
        refuse(record, "label", f"{label!r:.60} names no better response; give A>B or B>A")
    yield RankedGroup(
        read_id(record, part, "pair_id"),
        Conversation.ask(record.text("question")),
        (record.text("response_A"), record.text("response_B")),
        RANKS[label],
        record.text("source"),
        {"response_model": record.optional_text("response_model")},
    )


JUDGE_BENCH = Format(
    "judgebench",
    'pair_id, source, question, response_A, response_B, label "A>B"|"B>A"',
    parse,
    frozenset({"pair_id", "source", "question", "response_model"} | {"response_A", "response_B"})
    | {"label"},
    has("question", "response_A", "response_B", "label"),
)
