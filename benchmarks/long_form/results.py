"""``results.json`` of long answers: both of K-QA's scores, and what decided the numbers.

What does not apply is ``null``, never missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import Counts, Document, Score, load_results


class LongFormResults(Document):
    """One evaluation."""

    benchmark: str
    model: str
    """Who wrote the answers: a policy version, or what the file's author is called."""

    judge: str
    """The judge's name at its endpoint."""

    completeness: Score
    """Mean share of the must-have statements that an answer entails."""

    hallucination: Score
    """Mean number of statements that an answer contradicts: a count, which can exceed 1."""

    hallucination_share: Score
    """The same, of each question's statements: between 0 and 1."""

    counts: Counts
    """Questions; errors are verdicts or answers that are missing."""

    cut: int
    """Answers that ran into the limit and were judged as they are."""

    settings: dict[str, Any]
    """What decided the numbers: data, answers, judge, seed, versions."""

    partial: bool
    """Whether these are not all the questions."""

    partial_reasons: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, Score]:
        """By name, in the order of tables."""
        return {
            "completeness": self.completeness,
            "hallucination": self.hallucination,
            "hallucination_share": self.hallucination_share,
        }


def read_long_form_results(path: Path) -> LongFormResults:
    """The results in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    return load_results(LongFormResults, path)
