"""Two policies' answers to the same questions become scores, differences and outcomes.

Only questions that both answered count, so the scores may differ from those of either alone. Pure;
knows neither worlds nor suites, only what an answer is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.before_after.results import ABILITIES, Change, Difference, Kind, Measure, Outcome
from benchmarks.boards import Leaf, Node, Tree, difference, interval, mean, sign_flip_p, size
from benchmarks.results import Score

LEVEL = 0.05
"""Of the test that a gain or loss must pass besides. With very few questions the interval of a
bootstrap is too narrow, with one it is a point; this test then never passes."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one policy made of one question."""

    number: int
    digest: str
    section: str
    """Part of the suite; of a suite without parts, its name."""

    values: Mapping[Measure, float]
    """What was measured of it; the same measures for every item."""

    error: str | None = None
    """Why there are no values."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The questions that both policies answered, and what became of the others."""

    pairs: Sequence[tuple[Item, Item]]
    """Before and after, in the order of the data."""

    failed: int
    """Questions that at least one of the policies failed at."""

    first_error: str | None = None
    """Why the first of these failed."""

    def measures(self) -> list[Measure]:
        """What is known of all of them."""
        items = [item for pair in self.pairs for item in pair]
        names = items[0].values if items else ()
        return [name for name in names if all(name in item.values for item in items)]

    def sections(self, measure: Measure) -> dict[str, tuple[Leaf, Leaf]]:
        """Before and after, by section."""
        names = dict.fromkeys(before.section for before, _ in self.pairs)
        return {name: self._leaves(measure, name) for name in names}

    def whole(self, measure: Measure) -> tuple[Leaf, Leaf]:
        """Before and after, over all sections."""
        return self._leaves(measure, None)

    def _leaves(self, measure: Measure, section: str | None) -> tuple[Leaf, Leaf]:
        chosen = [pair for pair in self.pairs if section in (None, pair[0].section)]
        numbers = tuple(before.number for before, _ in chosen)
        before, after = (
            Leaf(tuple(pair[side].values[measure] for pair in chosen), numbers) for side in (0, 1)
        )
        return before, after


def pair(before: Iterable[Item], after: Iterable[Item]) -> Paired:
    """Pairs answers to the same question: of the same digest, at the same place in the data."""
    first, second = (
        {(item.number, item.digest): item for item in side} for side in (before, after)
    )
    common = [(first[key], second[key]) for key in sorted(first.keys() & second.keys())]
    sound = [(a, b) for a, b in common if a.error is None and b.error is None]
    wrong = {
        key: item.error for side in (first, second) for key, item in side.items() if item.error
    }
    return Paired(sound, len(wrong), first_error=wrong[min(wrong)] if wrong else None)


def change(
    before: Tree, after: Tree, *, kind: Kind, mode: str, measure: Measure, seed: int
) -> Change:
    """Scores of both policies and how far they are apart.

    Args:
        before: of the base policy.
        after: of the final policy, of the same form over the same questions.
        kind: what the measure stands for.
        mode: how the answers were had.
        measure: what the values are.
        seed: of resampling and sign flips.
    """
    gain = difference(after, before)
    low, high = interval(gain, seed=seed)
    apart = Difference(score=mean(gain), ci95=(low, high), p=sign_flip_p(gain, seed=seed))
    return Change(
        kind=kind,
        mode=mode,
        measure=measure,
        before=_score(before, seed),
        after=_score(after, seed),
        difference=apart,
        n=size(gain),
        outcome=outcome(apart) if measure in ABILITIES else None,
    )


def outcome(apart: Difference) -> Outcome:
    """What may be said of a difference of which more is better."""
    low, high = apart.ci95
    if apart.p >= LEVEL or low <= 0 <= high:
        return "unclear"
    return "gain" if low > 0 else "loss"


def average(parts: Mapping[str, tuple[Tree, Tree]]) -> tuple[Tree, Tree]:
    """Before and after as unweighted means of the parts, at least one."""
    return Node({name: both[0] for name, both in parts.items()}), Node(
        {name: both[1] for name, both in parts.items()}
    )


def _score(tree: Tree, seed: int) -> Score:
    low, high = interval(tree, seed=seed)
    return Score(score=mean(tree), n=size(tree), ci95=(low, high))
