"""Completeness and hallucination, from verdicts. Pure.

    completeness    the mean, over questions, of the share of must-have statements that the answer
                    entails
    hallucination   the mean, over questions, of the number of statements, must-have or nice to
                    have, that the answer contradicts: a count, as K-QA has it, which can exceed 1

``hallucination_share`` divides the count by the question's statements and lies in [0, 1].
Source: K-QA (arXiv 2401.14493), whose tool divides by all questions, answered or not; a question
with a missing verdict is in no score here and is counted as failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.boards import Board, Leaf, Tree


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The verdicts about the answer to one question. ``None`` where the judge gave none."""

    number: int
    """Place of the question in the data, counted from 0."""

    id: str
    entailed: tuple[bool | None, ...]
    """Along the must-have statements, at least one."""

    contradicted: tuple[bool | None, ...]
    """Along the must-have statements and then those that are nice to have."""

    @property
    def is_judged(self) -> bool:
        return None not in (*self.entailed, *self.contradicted)

    @property
    def completeness(self) -> float:
        return sum(map(bool, self.entailed)) / len(self.entailed)

    @property
    def hallucination(self) -> float:
        return float(sum(map(bool, self.contradicted)))

    @property
    def hallucination_share(self) -> float:
        return self.hallucination / len(self.contradicted)


def board(answers: Sequence[JudgedAnswer]) -> Board | None:
    """Both scores, over the answers that are judged; ``None`` where none is.

    The overall score is completeness.
    """
    judged = [answer for answer in answers if answer.is_judged]
    if not judged:
        return None
    numbers = tuple(answer.number for answer in judged)
    sections: dict[str, Tree] = {
        "completeness": Leaf(tuple(answer.completeness for answer in judged), numbers),
        "hallucination": Leaf(tuple(answer.hallucination for answer in judged), numbers),
        "hallucination_share": Leaf(
            tuple(answer.hallucination_share for answer in judged), numbers
        ),
    }
    return Board(overall=sections["completeness"], sections=sections, subsets={})
