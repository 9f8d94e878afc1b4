"""PandaLM's test set: two responses to an instruction, judged by three people.

    {"idx": 3, "instruction": "Say it in plain words.", "input": "Acute rhinitis.",
     "response1": "A cold.", "response2": "Rhinitis.", "cmp_key": "model-a_model-b",
     "annotator1": 1, "annotator2": 1, "annotator3": 0}

An annotator gives the number of the better response, or 0 for a tie. What two of them say holds;
where all three differ it is a tie. Candidates stay in the file's order. Some responses of the
published file lost their type and are the JSON booleans ``true`` and ``false``: nobody knows what
the model wrote, so these records are bad.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id, refuse
from corpora.records import Record

RANKS = {0: (1, 1), 1: (1, 2), 2: (2, 1)}
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
ORIGINS = ("cmp_key", "motivation_app")


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    verdicts = [_verdict(record, annotator) for annotator in ANNOTATORS]
    origins = {field: record.optional_text(field) for field in ORIGINS}
    yield RankedGroup(
        read_id(record, part, "idx", "id"),
        Conversation.ask(_question(record)),
        (_response(record, "response1"), _response(record, "response2")),
        RANKS[majority(verdicts)],
        details={**origins, "annotators": verdicts},
    )


def majority(verdicts: list[int]) -> int:
    """What more than half say, else 0, a tie."""
    [(verdict, votes)] = Counter(verdicts).most_common(1)
    return verdict if 2 * votes > len(verdicts) else 0


def _verdict(record: Record, annotator: str) -> int:
    verdict = record.whole(annotator)
    if verdict not in RANKS:
        refuse(record, annotator, f"{verdict} is no verdict; give 0 for a tie, 1 or 2")
    return verdict


def _question(record: Record) -> str:
    instruction, context = record.text("instruction"), record.optional_text("input") or ""
    return f"{instruction}\n\n{context}" if context.strip() else instruction


def _response(record: Record, field: str) -> str:
    value = record.fields.get(field)
    if isinstance(value, bool):
        refuse(
            record,
            field,
            f"the JSON boolean {str(value).lower()} instead of the response's text; restore the"
            " text or leave the record out",
        )
    return record.text(field)


PANDALM = Format(
    "pandalm",
    "instruction, input, response1, response2, annotator1..3 (0 tie, 1, 2)",
    parse,
    frozenset(
        {"idx", "id", "instruction", "input", "response1", "response2", *ANNOTATORS, *ORIGINS}
    ),
    has("instruction", "response1", "response2", *ANNOTATORS),
)
