"""A format: how the records of one published layout become ranked groups.

The readers beside this file each define one. A format knows its fields and nothing of files; what
it needs of a file is the name of the part of the data that the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpora.ranked import RankedGroup
from corpora.records import Record

Parse = Callable[[Record, str], Iterable[RankedGroup]]
"""The groups of a record of a part, none where the record compares nothing.

Raises:
    CorpusError: naming record, field and fix, if the record does not fit the format.
"""

Fits = Callable[[Mapping[str, object]], bool]

_SHARD = re.compile(r"-\d{5}(-of-\d{5}.*)?$")
_SAYS_NOTHING = {"data", "dataset"}


@dataclass(frozen=True, slots=True)
class Format:
    """A published layout."""

    name: str
    """What the layout is called on the command line."""

    layout: str
    """The record in one line, for people."""

    parse: Parse

    columns: frozenset[str] | None = None
    """All that ``parse`` looks at, so that the rest of a Parquet file is not read."""

    fits: Fits | None = None
    """Whether a record with these fields has this format; ``None`` if fields cannot tell."""


def has(*names: str) -> Fits:
    """Whether each of these fields is there and not null."""
    return lambda fields: all(fields.get(name) is not None for name in names)


def part_of(path: Path) -> str:
    """The name of the part of the data in a file: its stem without the number of a shard.

    A file called ``data`` or ``dataset`` has the name of its folder.
    """
    stem = _SHARD.sub("", path.stem)
    return path.absolute().parent.name if stem in _SAYS_NOTHING else stem
