"""From samples and rewards to results. Asks nobody, so it can be done again at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.best_of_n.curves import Method, Sample, SampledQuestion, curves
from benchmarks.best_of_n.results import BestOfNResults, Curves, Difference, Point
from benchmarks.best_of_n.rewards import Rewarded
from benchmarks.best_of_n.samples import About, Drawn
from benchmarks.boards import Board, Leaf, Tree, difference, interval, mean, sign_flip_p, size
from benchmarks.endpoints.base import Description
from benchmarks.qa.boards import of_sections
from benchmarks.results import Counts, Score, failed_questions, kind_of

BENCHMARK = "best-of-n"
BY_VOTE: frozenset[Method] = frozenset({"vote", "weighted_vote"})

Trees = Mapping[Method, Mapping[int, Tree]]


@dataclass(slots=True)
class Collected:
    """The questions of each section that have rewards, without texts, and what the others lack."""

    sections: dict[str, list[SampledQuestion]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    """Questions that failed, by what they failed of."""

    first_error: str = ""
    waiting: int = 0
    """Questions with samples that were never scored."""

    def note(self, error: str) -> None:
        """Counts a question that failed."""
        self.errors[kind_of(error)] += 1
        self.first_error = self.first_error or error

    @property
    def scored(self) -> int:
        return sum(map(len, self.sections.values()))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that results are made of."""

    model: str
    """The policy version."""

    about: About
    rewards: Description
    samples: int
    seed: int
    vote_temperature: float
    collected: Collected
    greedy: Board | None
    settings: Mapping[str, Any]
    failures: tuple[str, ...]
    """What ended sampling or scoring before it was done."""


def collect(questions: Iterable[Drawn], rewards: Mapping[str, Rewarded]) -> Collected:
    """Brings samples and rewards together. A question that failed is counted, never wrong."""
    found = Collected()
    for question in questions:
        rewarded = rewards.get(question.digest)
        if question.error is not None:
            found.note(question.error)
        elif rewarded is None:
            found.waiting += 1
        elif rewarded.error is not None:
            found.note(rewarded.error)
        else:
            samples = zip(question.values, question.votes, rewarded.rewards, strict=True)
            found.sections.setdefault(question.section, []).append(
                SampledQuestion(question.id, tuple(Sample(*each) for each in samples))
            )
    return found


def summarise(evaluation: Evaluation) -> BestOfNResults:
    """The results of all questions that have rewards."""
    collected, about = evaluation.collected, evaluation.about
    trees = {name: _leaves(questions, evaluation) for name, questions in collected.sections.items()}
    reasons = tuple(_reasons(evaluation))
    return BestOfNResults(
        benchmark=BENCHMARK,
        model=evaluation.model,
        reward_model=evaluation.rewards.model,
        fingerprint=evaluation.rewards.fingerprint,
        measure=about.measure,
        samples=evaluation.samples,
        overall=_overall(trees, evaluation) if trees else None,
        sections=_sections(trees, evaluation) if trees else {},
        counts=_counts(collected, about),
        settings=dict(evaluation.settings),
        partial=bool(reasons),
        partial_reasons=reasons,
    )


def _leaves(
    questions: list[SampledQuestion], evaluation: Evaluation
) -> dict[Method, dict[int, Leaf]]:
    found = curves(questions, seed=evaluation.seed, temperature=evaluation.vote_temperature)
    left_out = frozenset() if evaluation.about.has_votes else BY_VOTE
    return {method: leaves for method, leaves in found.items() if method not in left_out}


def _overall(sections: Mapping[str, Trees], evaluation: Evaluation) -> Curves:
    """Mean curves, weighted as the question suites weigh their sections."""
    first, greedy = next(iter(sections.values())), evaluation.greedy
    trees = {
        method: {
            n: of_sections({name: each[method][n] for name, each in sections.items()}, {}).overall
            for n in first[method]
        }
        for method in first
    }
    is_alike = greedy is not None and greedy.sections.keys() == sections.keys()
    return _curves(trees, greedy.overall if greedy and is_alike else None, evaluation.seed)


def _sections(sections: Mapping[str, Trees], evaluation: Evaluation) -> dict[str, Curves]:
    """In the order of the question suites' tables."""
    greedy = evaluation.greedy.sections if evaluation.greedy else {}
    ordered = of_sections({name: each["reward"][1] for name, each in sections.items()}, {}).sections
    return {name: _curves(sections[name], greedy.get(name), evaluation.seed) for name in ordered}


def _curves(trees: Trees, greedy: Tree | None, seed: int) -> Curves:
    ends = {method: by_n[max(by_n)] for method, by_n in trees.items()}
    return Curves(
        questions=size(ends["reward"]),
        curves={
            method: tuple(
                Point(samples=n, score=mean(tree), ci95=interval(tree, seed=seed))
                for n, tree in by_n.items()
            )
            for method, by_n in trees.items()
        },
        reward_minus_vote=_apart(ends["reward"], ends["vote"], seed) if "vote" in ends else None,
        reward_minus_random=_apart(ends["reward"], ends["random"], seed),
        greedy=None
        if greedy is None
        else Score(score=mean(greedy), n=size(greedy), ci95=interval(greedy, seed=seed)),
    )


def _apart(one: Tree, other: Tree, seed: int) -> Difference:
    apart = difference(one, other)
    return Difference(
        difference=mean(apart), ci95=interval(apart, seed=seed), p=sign_flip_p(apart, seed=seed)
    )


def _counts(collected: Collected, about: About) -> Counts:
    return Counts(
        groups=about.size,
        scored=collected.scored,
        failed=collected.errors.total(),
        bad_records=about.bad_records,
        errors=dict(collected.errors),
    )


def _reasons(evaluation: Evaluation) -> Iterator[str]:
    yield from evaluation.failures
    yield from evaluation.about.reasons
    collected = evaluation.collected
    failed = collected.errors.total()
    if failed:
        yield failed_questions(failed, collected.first_error)
    if collected.waiting:
        yield f"questions with samples and no rewards: {collected.waiting}"
    if left := evaluation.about.size - collected.scored - failed - collected.waiting:
        yield f"questions not asked: {left}"
