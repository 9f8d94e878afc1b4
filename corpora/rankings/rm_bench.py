"""RM-Bench's records: three chosen and three rejected responses to one prompt.

    {"id": 9, "domain": "chat", "prompt": "Is fever a disease?",
     "chosen": ["No, a sign.", "No. It is a sign of …", "**No.** It is a *sign* of …"],
     "rejected": ["Yes.", "Yes. It is a disease that …", "**Yes.** It is a *disease* that …"]}

The three are, in this order, concise, detailed in plain text and detailed in Markdown, and so are
the candidates of a group: first the chosen, then the rejected. The subset is the domain, which the
files of a single domain (``chat_filtered.json``) have in their name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import find_field, read_id, refuse
from corpora.records import Record

DOMAINS = ("chat", "code", "math", "safety-refuse", "safety-response")
STYLES = 3


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    yield RankedGroup(
        read_id(record, part, "id"),
        Conversation.ask(record.text("prompt")),
        (*_styled(record, "chosen"), *_styled(record, "rejected")),
        (1,) * STYLES + (2,) * STYLES,
        _domain(record, part),
    )


def _styled(record: Record, field: str) -> list[str]:
    responses = record.texts(field)
    if len(responses) != STYLES:
        refuse(record, field, f"{len(responses)} responses; give one in each of {STYLES} styles")
    return responses


def _domain(record: Record, part: str) -> str:
    of_file = part.removesuffix("_filtered")
    if record.fields.get("domain") is None and of_file in DOMAINS:
        return of_file
    return record.text(find_field(record, "domain", "subset") or "domain")


def _fits(fields: Mapping[str, object]) -> bool:
    """Lists of as many texts as there are styles, since messages are lists as well."""
    answers = (fields.get("chosen"), fields.get("rejected"))
    styled = all(
        isinstance(answer, list)
        and len(answer) == STYLES
        and all(isinstance(text, str) for text in answer)
        for answer in answers
    )
    return styled and has("prompt")(fields)


RM_BENCH = Format(
    "rm-bench",
    "id, prompt, chosen (3), rejected (3), domain: concise, detailed and Markdown, in this order",
    parse,
    frozenset({"id", "prompt", "chosen", "rejected", "domain", "subset"}),
    _fits,
)
