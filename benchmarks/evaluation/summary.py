"""From scored groups to the content of ``results.json``. Pure.

What was not scored is in no score; it is counted, and whatever makes the results less than the
benchmark's own is said in ``partial_reasons``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import boards, controls
from benchmarks.boards import Board, Tree
from benchmarks.evaluation.data import Survey
from benchmarks.evaluation.views import View
from benchmarks.leaves import usable
from benchmarks.results import Controls, Counts, Results, Score, Sensitivity
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import ScoredGroup, Ties
from benchmarks.suites import Suite
from foundation.words import SPACE, count


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that results are made of."""

    suite: Suite
    ties: Ties
    model: str
    fingerprint: str | None
    views: Mapping[View, Sequence[ScoredGroup]]
    """By view; ``as_asked`` is always there."""

    survey: Survey | None
    """Of the data; ``None`` where the scores were stored before."""

    settings: Mapping[str, Any]
    seed: int = 0
    judge_mode: JudgeMode | None = None
    """How a judge was asked, if one was."""

    reasons: Sequence[str] = field(default_factory=tuple)
    """Why the job itself knows the results to be partial."""

    @property
    def asked(self) -> Sequence[ScoredGroup]:
        return self.views["as_asked"]


def summarize(evaluation: Evaluation) -> Results:
    """The results of an evaluation.

    Raises:
        BenchmarkError: if the groups are not those of the benchmark.
    """
    board = score_board(evaluation, evaluation.asked)
    overall = to_score(board.overall if board else None, evaluation.seed)
    reasons = (*evaluation.reasons, *_reasons(evaluation, board))
    return Results(
        benchmark=evaluation.suite.name,
        model=evaluation.model,
        overall=overall.score,
        overall_ci95=overall.ci95,
        sections=_scores(board.sections if board else {}, evaluation.seed),
        subsets=_scores(board.subsets if board else {}, evaluation.seed),
        alternatives={
            rule: _scores(trees, evaluation.seed)
            for rule, trees in (board.alternatives if board else {}).items()
        },
        controls=_controls(evaluation),
        counts=_counts(evaluation),
        fingerprint=evaluation.fingerprint,
        settings=dict(evaluation.settings),
        partial=bool(reasons),
        partial_reasons=reasons,
    )


def score_board(evaluation: Evaluation, groups: Sequence[ScoredGroup]) -> Board | None:
    """The benchmark's own scores of some groups; ``None`` where none of them can be scored.

    Raises:
        BenchmarkError: if the groups are not those of the benchmark.
    """
    if not usable(groups):
        return None
    return evaluation.suite.score(groups, ties=evaluation.ties, judge_mode=evaluation.judge_mode)


def to_score(tree: Tree | None, seed: int) -> Score:
    """A score with its interval."""
    if tree is None:
        return Score(score=None, n=0, ci95=None)
    found = boards.interval(tree, seed=seed)
    return Score(score=boards.mean(tree), n=boards.size(tree), ci95=(found.low, found.high))


def _scores(trees: Mapping[str, Tree], seed: int) -> dict[str, Score]:
    return {name: to_score(tree, seed) for name, tree in trees.items()}


def _controls(evaluation: Evaluation) -> Controls:
    asked = evaluation.asked
    return Controls(
        longer_wins=_control_by_length(evaluation),
        shuffled_question=_control_view(evaluation, "shuffled_question"),
        empty_question=_control_view(evaluation, "empty_question"),
        swapped_order=_sensitivity(evaluation, "swapped_order"),
        batch_composition=_sensitivity(evaluation, "batch_composition"),
        by_length=controls.by_length(asked, evaluation.ties),
        calibration=controls.calibration(asked),
    )


def _control_by_length(evaluation: Evaluation) -> Score | None:
    suite, groups = evaluation.suite, controls.longer_wins(evaluation.asked)
    if not usable(groups):
        return None
    return to_score(suite.board(groups, ties=suite.fair_ties).overall, evaluation.seed)


def _control_view(evaluation: Evaluation, view: View) -> Score | None:
    groups = evaluation.views.get(view)
    if groups is None:
        return None
    board = score_board(evaluation, groups)
    return to_score(board.overall if board else None, evaluation.seed)


def _sensitivity(evaluation: Evaluation, view: View) -> Sensitivity | None:
    groups = evaluation.views.get(view)
    return None if groups is None else controls.sensitivity(evaluation.asked, groups)


def _counts(evaluation: Evaluation) -> Counts:
    asked = evaluation.asked
    errors = Counter(
        error.partition(":")[0] for group in asked for error in group.errors if error is not None
    )
    return Counts(
        groups=evaluation.survey.groups if evaluation.survey else len(asked),
        scored=sum(group.is_scored for group in asked),
        failed=sum(not group.is_scored for group in asked),
        ties=sum(group.is_scored and len(set(group.ranks)) == 1 for group in asked),
        bad_records=evaluation.survey.bad_records if evaluation.survey else 0,
        errors=dict(errors),
    )


def _reasons(evaluation: Evaluation, board: Board | None) -> Iterable[str]:
    counts = _counts(evaluation)
    if counts.scored + counts.failed < counts.groups:
        yield f"{counts.scored + counts.failed:,} of {counts.groups:,} groups were asked"
    if counts.failed:
        codes = ", ".join(f"{code} {number}" for code, number in counts.errors.items())
        verb = "has" if counts.failed == 1 else "have"
        yield f"{_count(counts.failed, 'group')} {verb} no reward for every candidate ({codes})"
    if counts.bad_records:
        yield f"{_count(counts.bad_records, 'record')} could not be read, and skipped"
    if board is None:
        yield "no group is scored"
    else:
        yield from (f"missing: {name}" for name in board.missing)
    yield from _short_subsets(evaluation)


def _short_subsets(evaluation: Evaluation) -> Iterable[str]:
    """Subsets of a benchmark of fixed size that have another number of groups."""
    if not evaluation.suite.sizes:
        return
    found = Counter(_folded(group.subset) for group in evaluation.asked)
    for name, size in evaluation.suite.sizes.items():
        there = found[_folded(name)]
        if there not in (0, size):  # one that is missing whole is told by the board
            yield f"{name}: {_count(there, 'group')}, the published benchmark has {size:,}"


def _count(number: int, noun: str) -> str:
    return count(number, noun).replace(SPACE, " ")


def _folded(name: str) -> str:
    return " ".join(name.replace("-", " ").replace("_", " ").split()).casefold()
