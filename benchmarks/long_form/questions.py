"""The questions of one evaluation: read once to know them, then streamed when they are asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from benchmarks.errors import BenchmarkError
from corpora.errors import CorpusError
from corpora.questions.k_qa import LongFormQuestion, read_long_form
from corpora.streams import OnBad, stop_at_bad


@dataclass(frozen=True, slots=True)
class Survey:
    """What the data has, read through once."""

    source: str
    total: int
    bad_records: int
    digest: str
    """Of all questions and statements, in order."""

    limit: int | None
    skips_bad: bool

    @property
    def size(self) -> int:
        """Questions that are asked."""
        return self.total if self.limit is None else min(self.total, self.limit)

    def stream(self) -> Iterator[LongFormQuestion]:
        """The questions that are asked."""
        on_bad: OnBad = (lambda error: None) if self.skips_bad else stop_at_bad
        return islice(read_long_form(self.source, on_bad=on_bad), self.size)


def read_survey(data: str, *, limit: int | None, skips_bad: bool) -> Survey:
    """Reads the questions through once.

    Raises:
        CorpusError: naming what cannot be read, and the fix.
        BenchmarkError: if there is no question.
    """
    bad: list[CorpusError] = []
    on_bad = bad.append if skips_bad else stop_at_bad
    digest, total = hashlib.sha256(), 0
    for question in read_long_form(data, on_bad=on_bad):
        content = [question.question, question.must_have, question.nice_to_have]
        digest.update(json.dumps(content, ensure_ascii=True).encode())
        total += 1
    if not total:
        raise BenchmarkError(
            f"{data}: no question to ask ({len(bad)} bad records); give K-QA's"
            " questions_w_answers.jsonl"
        )
    return Survey(data, total, len(bad), digest.hexdigest(), limit, skips_bad)
