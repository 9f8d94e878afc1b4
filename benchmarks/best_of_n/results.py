"""``results.json`` of best-of-N: a curve for each way of choosing, and what decided the numbers.

Scores are shares between 0 and 1: of right answers, or means of a world's gold. What does not apply
is ``null``, never missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.best_of_n.curves import Method
from benchmarks.best_of_n.samples import Measure
from benchmarks.results import Counts, Document, Interval95, Score, load_results


class Point(Document):
    """One point of a curve."""

    samples: int
    """N: of how many one is chosen."""

    score: float
    """The expected value of the chosen sample, over all sets of N."""

    ci95: Interval95


class Difference(Document):
    """Of two ways of choosing from all samples of the same questions."""

    difference: float
    ci95: Interval95
    """Paired bootstrap."""

    p: float
    """That there is no difference: two-sided, by flipping signs question by question."""


class Curves(Document):
    """What each way of choosing makes of the same samples."""

    questions: int
    curves: dict[Method, tuple[Point, ...]]
    """By way of choosing, from one sample to all of them; votes only where there are any."""

    reward_minus_vote: Difference | None
    reward_minus_random: Difference
    greedy: Score | None
    """Of greedy answers to the same suites, where there are any: one answer, without a choice."""

    def last(self, method: Method) -> Point:
        """Where a curve ends: chosen from all samples."""
        return self.curves[method][-1]


class BestOfNResults(Document):
    """One evaluation."""

    benchmark: str
    model: str
    """The policy version."""

    reward_model: str
    fingerprint: str | None
    """Of the reward model, where the endpoint tells."""

    measure: Measure
    """What the scores are of."""

    samples: int
    """Of each question: the largest N."""

    overall: Curves | None
    """Mean of the sections, weighted as for the question suites; ``null`` where nothing has
    rewards."""

    sections: dict[str, Curves]
    counts: Counts
    settings: dict[str, Any]
    """What decided the numbers: questions, sampling, who gave the rewards, seed, versions."""

    partial: bool
    """Whether these are not all the questions."""

    partial_reasons: tuple[str, ...] = ()


def read_best_of_n_results(path: Path) -> BestOfNResults:
    """The results in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    return load_results(BestOfNResults, path)
