"""Pairs for a reward model: two answers to one question, the better one known by construction.

The order of a pair comes from the defects built into its two answers, never from a grade, so a
reward model learns the same taste as the gold measure without ever having seen it. Defects that
lengthen an answer and defects that shorten it are balanced: the longer answer is no better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from corpora.clinic import answers
from corpora.clinic.answers import Quality, Writer
from corpora.clinic.knowledge import Knowledge
from corpora.clinic.questions import combo_of
from corpora.preference import Pair
from corpora.world import Question


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two qualities of which the first is better, and how often they meet."""

    better: Quality
    worse: Quality
    weight: int


CONTRASTS = (
    Contrast(answers.GOOD, answers.ONE_WRONG, 5),
    Contrast(answers.GOOD, answers.ALL_WRONG, 22),
    Contrast(answers.GOOD, answers.OFF_TOPIC, 5),
    Contrast(answers.GOOD, answers.NO_SAFETY, 10),
    Contrast(answers.GOOD, answers.FOREIGN_SAFETY, 6),
    Contrast(answers.GOOD, answers.PADDED, 10),
    Contrast(answers.GOOD, answers.REPEATING, 8),
    Contrast(answers.GOOD, answers.BROKEN_OFF, 10),
    Contrast(answers.GOOD, answers.PADDED_NO_SAFETY, 4),
    Contrast(answers.GOOD, answers.PADDED_BROKEN_OFF, 4),
    Contrast(answers.ONE_WRONG, answers.ALL_WRONG, 4),
    Contrast(answers.PADDED, answers.ALL_WRONG, 3),
    Contrast(answers.PADDED, answers.PADDED_WRONG, 4),
    Contrast(answers.PADDED, answers.PADDED_NO_SAFETY, 3),
    Contrast(answers.NO_SAFETY, answers.PADDED_NO_SAFETY, 2),
)


def build_pairs(
    knowledge: Knowledge, questions: Sequence[Question], count: int, *, rng: Random
) -> list[Pair]:
    """Builds ``count`` distinct clean pairs, walking the questions as often as it takes.

    Wrong facts are borrowed among the combinations of these very questions, so every fact that
    is rejected for one question is chosen for another, and no held-out fact is met.
    """
    writer = Writer(knowledge, rng, lenders=[combo_of(question.id) for question in questions])
    pairs: dict[Pair, None] = {}
    walked = 0
    while len(pairs) < count:
        pairs[_build_pair(writer, questions[walked % len(questions)], rng)] = None
        walked += 1
    return list(pairs)


def flip_labels(pairs: Sequence[Pair], share: float, *, rng: Random) -> list[Pair]:
    """Swaps chosen and rejected in exactly ``share`` of the pairs, as a tired annotator would."""
    flipped = set(rng.sample(range(len(pairs)), round(share * len(pairs))))
    return [pair.swap() if index in flipped else pair for index, pair in enumerate(pairs)]


def _build_pair(writer: Writer, question: Question, rng: Random) -> Pair:
    combo = combo_of(question.id)
    possible = [
        contrast
        for contrast in CONTRASTS
        if writer.can_write(combo, contrast.better) and writer.can_write(combo, contrast.worse)
    ]
    [contrast] = rng.choices(possible, weights=[contrast.weight for contrast in possible])
    return Pair(
        conversation=question.conversation,
        chosen=writer.write(combo, contrast.better),
        rejected=writer.write(combo, contrast.worse),
        question_id=question.id,
    )
