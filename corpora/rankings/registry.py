"""All formats of ranked groups by name, and the groups of any source in one of them.

Records are read one at a time, so a source may have any length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType

from corpora.errors import CorpusError
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format, part_of
from corpora.rankings.judge_bench import JUDGE_BENCH
from corpora.rankings.llmbar import LLMBAR
from corpora.rankings.medec import MEDEC
from corpora.rankings.medhallu import MEDHALLU, MEDHALLU_KNOWLEDGE
from corpora.rankings.pairs import PAIRS
from corpora.rankings.pandalm import PANDALM
from corpora.rankings.preference_test_sets import PREFERENCE_TEST_SETS
from corpora.rankings.ranked import RANKED
from corpora.rankings.reward_bench import REWARD_BENCH
from corpora.rankings.reward_bench_2 import REWARD_BENCH_2
from corpora.rankings.rm_bench import RM_BENCH
from corpora.rankings.ultramedical_preference import ULTRAMEDICAL_PREFERENCE
from corpora.records import Record
from corpora.sources import find_files
from corpora.streams import OnBad, stop_at_bad, stream_records

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        format.name: format
        for format in (
            REWARD_BENCH_2,
            REWARD_BENCH,
            PREFERENCE_TEST_SETS,
            ULTRAMEDICAL_PREFERENCE,
            RM_BENCH,
            JUDGE_BENCH,
            LLMBAR,
            PANDALM,
            MEDHALLU,
            MEDHALLU_KNOWLEDGE,
            MEDEC,
            RANKED,
            PAIRS,  # last: the fields of many others are theirs as well
        )
    }
)
"""In the order in which they are tried on a record."""


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        CorpusError: naming the known ones, if there is none.
    """
    if name not in FORMATS:
        raise CorpusError(f"format: {name!r} is not known; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def detect_format(record: Record) -> Format:
    """The format that the fields of a record tell.

    Raises:
        CorpusError: naming the known ones, if they tell none.
    """
    for format in FORMATS.values():
        if format.fits is not None and format.fits(record.fields):
            return format
    fields = ", ".join(record.fields) or "none"
    raise CorpusError(
        f"{record.where}: its fields ({fields:.120}) tell no format; name one of"
        f" {', '.join(FORMATS)}"
    )


def read_ranked(
    source: str,
    format: Format | None,
    *,
    split: str | None = None,
    on_bad: OnBad = stop_at_bad,
    limit: int | None = None,
) -> Iterator[RankedGroup]:
    """The groups of a source, made as they are asked for, in the order of its files.

    Args:
        source: the path of a file or folder, or ``owner/name`` on a hub.
        format: of all records; ``None`` for what the first record tells.
        split: of a folder or hub; ``None`` for all files.
        on_bad: takes the error of a record that does not fit.
        limit: the most groups.

    Raises:
        CorpusError: if the source or one of its files cannot be read or no record gives a group;
            or what ``on_bad`` raises.
    """
    groups = _groups(find_files(source, split=split), format, on_bad)
    first = next(groups, None)
    if first is None:
        raise CorpusError(
            f"{source}: no record gives a group; give ranked data, or name its format"
        )
    yield from islice(chain([first], groups), limit)


def _groups(files: Iterable[Path], format: Format | None, on_bad: OnBad) -> Iterator[RankedGroup]:
    for path in files:
        part, columns = part_of(path), None if format is None else format.columns
        for record in stream_records(path, columns=columns, on_bad=on_bad):
            try:
                format = format or detect_format(record)
                groups = [_told(group, record) for group in format.parse(record, part)]
            except CorpusError as error:
                on_bad(error)
            else:
                yield from groups


def _told(group: RankedGroup, record: Record) -> RankedGroup:
    """The group, if what results tell of it can be written. Texts are for whoever scores them."""
    for field, value in (("id", group.id), ("subset", group.subset), ("details", group.details)):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise CorpusError(
                f"{record.where}: {field}: holds half of a surrogate pair; mend it"
            ) from None
    return group
