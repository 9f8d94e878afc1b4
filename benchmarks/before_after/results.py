"""``results.json`` of a comparison: what a run gained and lost, measure by measure.

A difference is after minus before. Gold, accuracies and rates are shares between 0 and 1,
log-probabilities are nats a token, lengths are tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from benchmarks.results import Document, Interval95, Score, load_results

Kind = Literal["world", "medical", "general"]
Measure = Literal["gold", "accuracy", "logprob_per_token", "length_tokens", "cut_rate"]
Outcome = Literal["gain", "loss", "unclear"]

ABILITIES: frozenset[Measure] = frozenset({"gold", "accuracy", "logprob_per_token"})
"""The measures of which more is better."""


class Difference(Document):
    """After minus before, question by question."""

    score: float
    ci95: Interval95
    """Paired bootstrap."""

    p: float
    """That there is no difference: two-sided, by flipping signs question by question."""


class Change(Document):
    """One measure of both policies, over the questions that both answered."""

    kind: Kind
    mode: str
    """How the answers were had."""

    measure: Measure
    before: Score
    after: Score
    difference: Difference
    n: int
    """Questions."""

    outcome: Outcome | None
    """A gain or loss where the interval excludes zero and p is below 0.05; ``null`` for a measure
    of which more is neither better nor worse."""


class BeforeAfterResults(Document):
    """One comparison."""

    benchmark: Literal["before-after"] = "before-after"
    run: str
    before: str
    """The base policy's version."""

    after: str
    """The final policy's version."""

    suites: dict[str, Change]
    """By name and mode: the run's own world, then medical suites, then general ability."""

    averages: dict[str, Change]
    """Unweighted means over the suites of a kind, by kind and mode, where there are several."""

    manner: dict[str, dict[str, Change]]
    """Lengths and shares of cut answers, by name and mode, then by measure."""

    verdict: tuple[str, ...]
    """Gains, losses and what is not known, one line each."""

    settings: dict[str, Any]
    """What decided the numbers: run, world, suites with digests, server, seed, versions."""

    partial: bool
    """Whether these are not all questions, or not the run's last word."""

    partial_reasons: tuple[str, ...] = ()


def read_before_after(path: Path) -> BeforeAfterResults:
    """The results in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    return load_results(BeforeAfterResults, path)
