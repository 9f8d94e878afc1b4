"""RewardBench 2's records: right and wrong responses to one prompt, right ones first.

    {"id": "tied:12", "subset": "Ties", "prompt": "Name a bone of the hand.",
     "chosen": ["The scaphoid.", "The lunate."], "rejected": ["The femur."],
     "num_correct": 2, "total_completions": 3, "models": ["model-a", "model-b", "model-a"]}

The published set is ``allenai/reward-bench-2``, split ``test``. Outside of Ties one response is
right. The counts of a record must agree with its lists, since a cut list scores higher.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id, refuse
from corpora.records import Record


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    chosen, rejected = record.texts("chosen"), record.texts("rejected")
    for field, candidates in (("chosen", chosen), ("rejected", rejected)):
        if not candidates:
            refuse(record, field, "an empty list; give at least one response")
    _expect(record, "num_correct", len(chosen), "chosen responses")
    _expect(record, "total_completions", len(chosen) + len(rejected), "responses")
    details: dict[str, object] = {"num_correct": len(chosen)}
    if record.fields.get("models") is not None:
        details["models"] = record.texts("models")
    yield RankedGroup(
        read_id(record, part, "id"),
        Conversation.ask(record.text("prompt")),
        (*chosen, *rejected),
        (1,) * len(chosen) + (2,) * len(rejected),
        record.text("subset"),
        details,
    )


def _expect(record: Record, field: str, count: int, what: str) -> None:
    stated = record.whole(field)
    if stated != count:
        refuse(record, field, f"says {stated}, but there are {count} {what}; get the whole record")


REWARD_BENCH_2 = Format(
    "reward-bench-2",
    "id, subset, prompt, chosen (list), rejected (list), num_correct, total_completions",
    parse,
    frozenset(
        {"id", "subset", "prompt", "chosen", "rejected", "num_correct", "total_completions"}
        | {"models"}
    ),
    has("prompt", "chosen", "rejected", "num_correct", "total_completions"),
)
