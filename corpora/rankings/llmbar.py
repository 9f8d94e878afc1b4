"""LLMBar's records: an instruction, two outputs, and which one follows it.

    {"input": "Name three signs of a cold, no more.",
     "output_1": "Sneezing, a runny nose, a sore throat.",
     "output_2": "Sneezing, a runny nose, a sore throat and a cough.", "label": 1}

Candidates stay in the file's order, so that a preference for a position can be seen. The part that
a file holds is the subset.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id, refuse
from corpora.records import Record

RANKS = {1: (1, 2), 2: (2, 1)}


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    label = record.whole("label")
    if label not in RANKS:
        refuse(record, "label", f"{label} names no output; give 1 or 2")
    yield RankedGroup(
        read_id(record, part, "id"),
        Conversation.ask(record.text("input")),
        (record.text("output_1"), record.text("output_2")),
        RANKS[label],
        part,
    )


LLMBAR = Format(
    "llmbar",
    "input, output_1, output_2, label 1|2; the file's name is the subset",
    parse,
    frozenset({"id", "input", "output_1", "output_2", "label"}),
    has("input", "output_1", "output_2", "label"),
)
