"""MedHallu's records: a question from PubMedQA, its true answer and an invented one.

    {"Question": "Does honey ease a child's cough?",
     "Knowledge": ["Children who had honey coughed less at night."],
     "Ground Truth": "Yes, at night.", "Hallucinated Answer": "No, it makes the cough worse.",
     "Difficulty Level": "easy", "Category of Hallucination": "Misinterpretation of #Question#"}

The knowledge is what the true answer was drawn from. There are two formats: one asks the question
alone, as a patient would, the other puts the knowledge before it. The difficulty is the subset.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id
from corpora.records import Record


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    yield _group(record, part, record.text("Question"))


def parse_with_knowledge(record: Record, part: str) -> Iterable[RankedGroup]:
    yield _group(record, part, "\n\n".join([*record.texts("Knowledge"), record.text("Question")]))


def _group(record: Record, part: str, question: str) -> RankedGroup:
    return RankedGroup.pair(
        read_id(record, part, "id"),
        Conversation.ask(question),
        record.text("Ground Truth"),
        record.text("Hallucinated Answer"),
        subset=record.text("Difficulty Level"),
        details={"category": record.optional_text("Category of Hallucination")},
    )


_COLUMNS = frozenset(
    {"id", "Question", "Ground Truth", "Hallucinated Answer", "Difficulty Level"}
    | {"Category of Hallucination"}
)

MEDHALLU = Format(
    "medhallu",
    "Question, Ground Truth, Hallucinated Answer, Difficulty Level; asked without Knowledge",
    parse,
    _COLUMNS,
    has("Question", "Ground Truth", "Hallucinated Answer"),
)
MEDHALLU_KNOWLEDGE = Format(
    "medhallu-knowledge",
    "as medhallu, with Knowledge (list) before the question",
    parse_with_knowledge,
    _COLUMNS | {"Knowledge"},
)
