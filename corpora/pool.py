"""The questions of one purpose, in a fixed order, handed out by count.

A count that a pool cannot meet is an error: a run never gets fewer questions than its recipe says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from corpora.errors import CorpusError
from corpora.world import Question


@dataclass(frozen=True, slots=True)
class Pool:
    """Questions of one purpose. ``field`` is where a recipe says how many it wants."""

    field: str
    questions: Sequence[Question]

    def first(self, count: int) -> Sequence[Question]:
        """The first ``count`` questions.

        Raises:
            CorpusError: if there are fewer.
        """
        if count > len(self.questions):
            raise CorpusError(
                f"{self.field}: {count} wanted, the data has {len(self.questions)}; "
                f"set it to at most {len(self.questions)}"
            )
        return self.questions[:count]

    def walk(self, round_number: int, count: int) -> Sequence[Question]:
        """The questions of a round, counted from 1; walks on and wraps, never twice in a round.

        Raises:
            CorpusError: if there are fewer than ``count``.
        """
        start = (round_number - 1) * count
        return list(islice(cycle(self.questions), start, start + len(self.first(count))))
