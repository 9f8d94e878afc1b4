"""RewardBench's records: a prompt, a chosen and a rejected response, and who wrote them.

    {"id": 31, "subset": "alpacaeval-easy", "prompt": "How long is a cold catching?",
     "chosen": "Mostly for the first three days.", "chosen_model": "model-a",
     "rejected": "It is not.", "rejected_model": "model-b"}

The published set is ``allenai/reward-bench``, split ``filtered``. Its ids are numbers and are not
unique across subsets.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id
from corpora.records import Record

WRITERS = ("chosen_model", "rejected_model")


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    yield RankedGroup.pair(
        read_id(record, part, "id"),
        Conversation.ask(record.text("prompt")),
        record.text("chosen"),
        record.text("rejected"),
        subset=record.text("subset"),
        details={field: record.optional_text(field) for field in WRITERS},
    )


REWARD_BENCH = Format(
    "reward-bench",
    "id, subset, prompt, chosen, chosen_model, rejected, rejected_model: all text",
    parse,
    frozenset({"id", "subset", "prompt", "chosen", "rejected", *WRITERS}),
    has("prompt", "chosen", "rejected", "subset", "chosen_model", "rejected_model"),
)
