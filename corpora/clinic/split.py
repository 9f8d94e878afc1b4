"""Who may see what: every question serves one purpose, and what is held out is met nowhere else.

Combinations of condition and intent are shuffled within each intent; a fifth of them is held out.
Of the six phrasings of every combination two, drawn by seed, are kept for demonstrations. The other
four are asked: of a held-out combination all for the gate and gold, of any other one two in rounds,
one for the reward model's training pairs and one for its held-out pairs. Hence no question serves
two purposes, and no combination that is held out is met in a round or in a pair. The base policy
alone meets every combination, in other words than those it is later asked in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from corpora.clinic.knowledge import Combo, Intent, Knowledge
from corpora.clinic.questions import PHRASING_COUNT

HELDOUT_SHARE = 0.20
"""Of the combinations of each intent."""

DEMONSTRATED_PHRASINGS = 2


class Purpose(StrEnum):
    """What a combination's questions are asked for."""

    HELDOUT = "heldout"
    ROUNDS = "rounds"
    REWARD_TRAIN = "reward_train"
    REWARD_HELDOUT = "reward_heldout"


ASKED_PHRASINGS: Mapping[Purpose, slice] = {
    Purpose.HELDOUT: slice(DEMONSTRATED_PHRASINGS, PHRASING_COUNT),
    Purpose.ROUNDS: slice(DEMONSTRATED_PHRASINGS, DEMONSTRATED_PHRASINGS + 2),
    Purpose.REWARD_TRAIN: slice(DEMONSTRATED_PHRASINGS + 2, DEMONSTRATED_PHRASINGS + 3),
    Purpose.REWARD_HELDOUT: slice(DEMONSTRATED_PHRASINGS + 3, PHRASING_COUNT),
}
"""Places in a combination's own order of phrasings."""


@dataclass(frozen=True, slots=True)
class Split:
    """The held-out combinations, and every combination's phrasings in its own order."""

    heldout: frozenset[Combo]
    phrasings: Mapping[Combo, tuple[int, ...]]

    def demonstrated(self, combo: Combo) -> tuple[int, ...]:
        """The phrasings in which demonstrations ask."""
        return self.phrasings[combo][:DEMONSTRATED_PHRASINGS]

    def questions(self, purpose: Purpose) -> list[tuple[Combo, int]]:
        """Combination and phrasing of every question that serves the purpose."""
        return [
            (combo, phrasing)
            for combo, phrasings in self.phrasings.items()
            if (combo in self.heldout) == (purpose is Purpose.HELDOUT)
            for phrasing in phrasings[ASKED_PHRASINGS[purpose]]
        ]


def split(knowledge: Knowledge, *, seed: int) -> Split:
    """Splits all combinations and phrasings; the same seed splits the same way."""
    rng = Random(f"{seed}/split")
    heldout: set[Combo] = set()
    for intent in Intent:
        combos = [Combo(condition.slug, intent) for condition in knowledge.conditions]
        heldout |= set(rng.sample(combos, round(HELDOUT_SHARE * len(combos))))
    phrasings = {
        combo: tuple(rng.sample(range(PHRASING_COUNT), PHRASING_COUNT))
        for combo in knowledge.combos
    }
    return Split(frozenset(heldout), phrasings)
