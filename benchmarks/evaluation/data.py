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
    is_cut: bool = False
    """Whether there are more groups than the limit."""


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
        return islice(self._all(on_bad), self.limit)

    def _all(self, on_bad: OnBad | None) -> Iterator[RankedGroup]:
        bad = on_bad or (_ignore if self.skip_bad else stop_at_bad)
        parts = (
            read_ranked(source.location, source.format, split=source.split, on_bad=bad)
            for source in self.sources
        )
        return chain.from_iterable(parts)

    def survey(self) -> Survey:
        """Reads all of it, or one group more than the limit.

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
        everything = self._all(note if self.skip_bad else None)
        for group in islice(everything, self.limit):
            groups += 1
            if len(examples) < SUBSETS_SHOWN:
                examples.setdefault(group.subset, group)
            digest.update(f"{group.digest}{group.ranks}{group.subset}\n".encode())
        return Survey(
            groups=groups,
            digest=digest.hexdigest()[:16],
            examples=tuple(examples.values()),
            bad_records=count,
            bad_shown=tuple(bad),
            is_cut=groups == self.limit and _goes_on(everything),
        )


def _ignore(error: CorpusError) -> None:
    """It was counted in the survey."""


def _goes_on(groups: Iterator[RankedGroup]) -> bool:
    try:
        return next(groups, None) is not None
    except CorpusError:  # of a record that nobody is asked about
        return True
