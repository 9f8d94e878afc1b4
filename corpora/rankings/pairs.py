"""Any file of preferences: a conversation, a chosen and a rejected response.

    {"prompt": "What helps a stuffy nose?", "chosen": "Saline.", "rejected": "Antibiotics."}

    {"id": "q1", "subset": "nose",
     "chosen": [{"role": "user", "content": "What helps a stuffy nose?"},
                {"role": "assistant", "content": "Saline."}],
     "rejected": [{"role": "user", "content": "What helps a stuffy nose?"},
                  {"role": "assistant", "content": "Antibiotics."}]}

The conversation is text or messages, in ``prompt``, ``messages``, ``question`` or ``input``, or it
is what both answers repeat.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import find_field, read_id, read_preference
from corpora.records import Record

PROMPTS = ("prompt", "messages", "question", "input")


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    preference = read_preference(record, prompt=find_field(record, *PROMPTS))
    yield RankedGroup.pair(
        read_id(record, part, "id"),
        preference.conversation,
        preference.chosen,
        preference.rejected,
        subset=record.optional_text("subset") or "",
    )


PAIRS = Format(
    "pairs",
    "prompt (text or messages; or question, input), chosen, rejected (text or messages)",
    parse,
    frozenset({"id", "subset", "chosen", "rejected", *PROMPTS}),
    has("chosen", "rejected"),
)
