"""The preference test sets that came before RewardBench, in the layout that it reads them in.

    {"prompt": [{"role": "user", "content": "Which tea for a cough?"}],
     "chosen": "Thyme tea.", "rejected": "Any.", "subset": "helpful-base", "id": 4}

The published set keeps each of them as a split of its own, so that the part that a file holds is
the subset: ``anthropic_helpful``, ``anthropic_hhh``, ``shp``, ``summarize`` and others that the
benchmark leaves out, which is for its rules to do. What the record calls its subset is a part of
that part. Fields cannot tell this layout from other pairs, so it has to be named.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format
from corpora.rankings.turns import read_id, read_preference
from corpora.records import Record


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    preference = read_preference(record, prompt="prompt")
    subsubset = record.optional_text("subset")
    yield RankedGroup.pair(
        read_id(record, part, "id"),
        preference.conversation,
        preference.chosen,
        preference.rejected,
        subset=part,
        details={} if subsubset is None else {"subsubset": subsubset},
    )


PREFERENCE_TEST_SETS = Format(
    "preference-test-sets",
    "prompt (messages), chosen, rejected; the file's name is the subset",
    parse,
    frozenset({"id", "subset", "prompt", "chosen", "rejected"}),
)
