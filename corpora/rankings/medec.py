"""MEDEC's records: a clinical text, and its correction where an error was planted in it.

    Text ID,Text,Error Flag,Error Type,Corrected Text
    ms-1,"Sore throat, no cough. Given aciclovir.",1,treatment,"Sore throat, … Given penicillin."
    ms-2,"Runny nose for two days. Told to rest.",0,NA,NA

Only texts with an error compare anything: the corrected text is the better of the two. The texts
answer no question of their own, so one and the same is put before all of them. The kind of the
error is the subset.
"""

from __future__ import annotations

from collections.abc import Iterable

from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, has
from corpora.rankings.turns import read_id, refuse
from corpora.records import Record

REQUEST = (
    "Write the clinical note of this encounter. Its findings, diagnosis and treatment must be"
    " medically correct and agree with each other."
)
ABSENT = "NA"


def parse(record: Record, part: str) -> Iterable[RankedGroup]:
    flag = record.whole("Error Flag")
    if flag not in (0, 1):
        refuse(record, "Error Flag", f"{flag} says neither yes nor no; give 0 or 1")
    if flag == 0:
        return
    # Only one of them may end in a blank, which would tell them apart without any medicine.
    text, corrected = record.text("Text").strip(), record.text("Corrected Text").strip()
    if corrected in ("", ABSENT, text):
        refuse(record, "Corrected Text", "corrects nothing; give it, or set Error Flag to 0")
    yield RankedGroup.pair(
        read_id(record, part, "Text ID"),
        Conversation.ask(REQUEST),
        corrected,
        text,
        subset=record.text("Error Type"),
    )


MEDEC = Format(
    "medec",
    "Text ID, Text, Error Flag 0|1, Error Type, Corrected Text; records without error are left out",
    parse,
    frozenset({"Text ID", "Text", "Error Flag", "Error Type", "Corrected Text"}),
    has("Text", "Error Flag", "Corrected Text"),
)
