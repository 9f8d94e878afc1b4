"""The questions of each suite: read once to know them, then streamed as often as they are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.errors import BenchmarkError
from benchmarks.qa.options import QaConfig, SuiteSource
from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.questions.pubmed_qa import read_ids
from corpora.questions.registry import Format, find_format, format_of, read_questions
from corpora.streams import OnBad, stop_at_bad


@dataclass(frozen=True, slots=True)
class Suite:
    """Questions under one name."""

    name: str
    source: str
    format: Format
    split: str | None
    ids: frozenset[str] | None
    """The only ones that are asked."""

    total: int
    """Questions that there are."""

    limit: int | None
    bad_records: int
    digest: str
    """Of all questions, in order."""

    skips_bad: bool

    @property
    def size(self) -> int:
        """Questions that are asked."""
        return self.total if self.limit is None else min(self.total, self.limit)

    def stream(self) -> Iterator[tuple[int, ChoiceQuestion]]:
        """The questions that are asked, with their numbers."""
        on_bad: OnBad = (lambda error: None) if self.skips_bad else stop_at_bad
        for number, question in enumerate(
            _questions(self.source, self.format, self.split, self.ids, on_bad)
        ):
            if number == self.size:
                return
            yield number, question

    def section(self, question: ChoiceQuestion) -> str:
        """Under which name tables have a question."""
        return self.format.section(self.name, question.subset)


def open_suite(given: SuiteSource, config: QaConfig) -> Suite:
    """Reads a suite through once.

    Raises:
        CorpusError: naming what cannot be read, and the fix.
        BenchmarkError: if there is no question.
    """
    format = find_format(given.format) if given.format else format_of(given.source)
    ids = read_ids(config.ids) if config.ids and format.name == "pubmed-qa" else None
    bad: list[CorpusError] = []
    on_bad = bad.append if config.skip_bad else stop_at_bad
    digest, total = hashlib.sha256(), 0
    for question in _questions(given.source, format, config.split, ids, on_bad):
        digest.update(question.digest.encode())
        total += 1
    if not total:
        raise BenchmarkError(
            f"--suite {given.name}: {given.source}: no question to ask ({len(bad)} bad records);"
            " give another source, --split or --ids"
        )
    return Suite(
        given.name,
        given.source,
        format,
        config.split,
        ids,
        total,
        config.limit,
        len(bad),
        digest.hexdigest(),
        config.skip_bad,
    )


def _questions(
    source: str,
    format: Format,
    split: str | None,
    ids: frozenset[str] | None,
    on_bad: OnBad,
) -> Iterator[ChoiceQuestion]:
    for question in read_questions(source, format, split=split, on_bad=on_bad):
        if ids is None or question.id in ids:
            yield question
