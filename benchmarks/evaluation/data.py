"""The data of an evaluation: read once to be checked and counted, then streamed for each pass.

No text stays in memory but one group of each subset: what is kept of the others is a running
digest over all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from corpora.errors import CorpusError
from corpora.ranked import RankedGroup
from corpora.rankings.formats import Format
from corpora.rankings.registry import read_ranked
from corpora.streams import OnBad, stop_at_bad

SUBSETS_SHOWN = 64
"""Subsets of which a group is kept."""

BAD_SHOWN = 5
"""Bad records whose errors are told; the others are counted."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where some groups are."""

    location: str
    """Path of a file or folder, or name on a hub."""

    format: Format | None
    """``None``: as the first record tells."""

    split: str | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What the data holds."""

    groups: int
    digest: str
    """16 hex digits over every group, in order."""

    examples: tuple[RankedGroup, ...]
    """The first group of each subset, of so many as are shown."""

    bad_records: int
    bad_shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """Groups of one or several sources, one after another."""

    sources: Sequence[Source]
    skip_bad: bool = False
    """Whether a bad record is counted instead of ending the job."""

    limit: int | None = None
    """Only so many groups, from the first."""

    def stream(self, *, on_bad: OnBad | None = None) -> Iterator[RankedGroup]:
        """The groups, made as they are asked for.

        Raises:
            CorpusError: naming file, record, field and fix.
        """
        bad = on_bad or (_ignore if self.skip_bad else stop_at_bad)
        parts = (
            read_ranked(source.location, source.format, split=source.split, on_bad=bad)
            for source in self.sources
        )
        return islice(chain.from_iterable(parts), self.limit)

    def survey(self) -> Survey:
        """Reads all of it.

        Raises:
            CorpusError: if it cannot be read, or holds a bad record that may not be skipped.
        """
        bad: list[str] = []
        count = 0

        def note(error: CorpusError) -> None:
            nonlocal count
            count += 1
            bad.extend([str(error)] * (len(bad) < BAD_SHOWN))

        digest, groups, examples = hashlib.sha256(), 0, dict[str, RankedGroup]()
        for group in self.stream(on_bad=note if self.skip_bad else None):
            groups += 1
            if len(examples) < SUBSETS_SHOWN:
                examples.setdefault(group.subset, group)
            digest.update(f"{group.digest}{group.ranks}{group.subset}\n".encode())
        shown = tuple(examples.values())
        return Survey(groups, digest.hexdigest()[:16], shown, count, tuple(bad))


def _ignore(error: CorpusError) -> None:
    """It was counted in the survey."""
