"""Records as a file would hold them, read in one format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corpora.conversation import MessageDict
from corpora.errors import CorpusError
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format
from corpora.rankings.registry import detect_format
from corpora.records import Record

DATA = Path(os.environ.get("MEDPREF_DATA") or Path(__file__).parents[4] / "shared/data")

ASKED = "What helps a stuffy nose?"


def user(text: str = ASKED) -> MessageDict:
    return {"role": "user", "content": text}


def system(text: str) -> MessageDict:
    return {"role": "system", "content": text}


def said(text: str) -> MessageDict:
    return {"role": "assistant", "content": text}


def record_of(**fields: Any) -> Record:
    return Record("f.jsonl:7", 7, fields)


def read(format: Format, fields: dict[str, Any], part: str = "test") -> RankedGroup:
    """The one group of a record."""
    [group] = format.parse(record_of(**fields), part)
    return group


def detected(fields: dict[str, Any]) -> Format:
    return detect_format(record_of(**fields))


def refusal(format: Format, fields: dict[str, Any]) -> str:
    """What is wrong with a record, without its place, which has to be named."""
    with pytest.raises(CorpusError) as caught:
        list(format.parse(record_of(**fields), "test"))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("f.jsonl:7: ")
    return message.removeprefix("f.jsonl:7: ")
