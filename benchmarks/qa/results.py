"""``results.json`` of the question suites: one mode beside the other, and what decided the numbers.

Scores are shares between 0 and 1; what does not apply is ``null``, never missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.qa.answered import Mode
from benchmarks.results import Counts, Document, Interval95, Score, load_results


class ModeResults(Document):
    """What one way of asking gave."""

    overall: float | None
    overall_ci95: Interval95 | None
    sections: dict[str, Score]
    """By suite; MMLU by subject."""

    subsets: dict[str, Score]
    """By subject within a suite."""

    counts: Counts
    parse_rate: float | None
    """Share of the answers that choose an option; ``null`` where likelihood chose."""

    undecided: int
    """Questions whose answers choose no option: counted as wrong."""

    mean_tokens: float | None
    """Of an answer."""

    cut_rate: float | None
    """Share of the answers that ran into the limit."""


class QaResults(Document):
    """One evaluation."""

    benchmark: str
    model: str
    """The policy version."""

    mode: Mode
    """Whose scores stand at the top: the first that was asked for."""

    overall: float | None
    """Mean of the sections that are columns of UltraMedical's table; of all, where none is."""

    overall_ci95: Interval95 | None
    sections: dict[str, Score]
    subsets: dict[str, Score]
    modes: dict[Mode, ModeResults]
    missing: tuple[str, ...]
    """Columns of UltraMedical's table that the overall score goes without."""

    settings: dict[str, Any]
    """What decided the numbers: suites, digests, server, sampling, prompt, seed, versions."""

    partial: bool
    """Whether these are not all the questions of the suites."""

    partial_reasons: tuple[str, ...] = ()


def read_qa_results(path: Path) -> QaResults:
    """The results in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    return load_results(QaResults, path)
