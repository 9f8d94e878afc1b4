"""UltraMedical-Preference, whose test split is the Medical RewardBench, and its mirrors.

    {"prompt_id": "MedQuad,7", "label_type": "hard", "prompt": "What causes hiccups?",
     "chosen": [{"role": "user", "content": "What causes hiccups?"},
                {"role": "assistant", "content": "A spasm of the diaphragm."}],
     "rejected": [{"role": "user", "content": "What causes hiccups?"},
                  {"role": "assistant", "content": "Somebody thinks of you."}],
     "metadata": {"chosen_score": 5.0, "rejected_score": 2.0}}

Mirrors write ``preference_type`` for the first, ``id`` for the second, ``chosen_response`` and
``rejected_response`` for the answers, and give these as texts or single messages. The subset is
``easy``, ``hard``, ``length`` or ``human``, or none where a mirror dropped it. An id names the
question and may come back with other answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import find_field, read_id, read_preference, refuse
from corpora.records import Record

TYPES = ("label_type", "preference_type")


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    preference = read_preference(
        record,
        prompt="prompt",
        chosen=find_field(record, "chosen", "chosen_response") or "chosen",
        rejected=find_field(record, "rejected", "rejected_response") or "rejected",
    )
    kind = find_field(record, *TYPES)
    yield RankedGroup.pair(
        read_id(record, part, "prompt_id", "id"),
        preference.conversation,
        preference.chosen,
        preference.rejected,
        subset=record.text(kind).strip().lower() if kind else "",
        details=_details(record),
    )


def _details(record: Record) -> dict[str, object]:
    """The numbers and texts of the metadata: scores, where the question is from."""
    metadata = record.fields.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        refuse(record, "metadata", f"expected an object, got {metadata!r:.60}; mend it or drop it")
    return {name: value for name, value in metadata.items() if isinstance(value, str | int | float)}


def _fits(fields: Mapping[str, object]) -> bool:
    metadata = fields.get("metadata")
    scored = isinstance(metadata, Mapping) and has("chosen_score", "rejected_score")(metadata)
    typed = any(fields.get(name) is not None for name in TYPES)
    answered = has("chosen", "rejected")(fields)
    return has("chosen_response", "rejected_response")(fields) or (answered and (scored or typed))


ULTRAMEDICAL_PREFERENCE = Format(
    "ultramedical-preference",
    "prompt_id, prompt, chosen, rejected (messages or text), label_type easy|hard|length|human",
    parse,
    frozenset(
        {"prompt_id", "id", "prompt", "metadata", *TYPES}
        | {"chosen", "rejected", "chosen_response", "rejected_response"}
    ),
    _fits,
)
