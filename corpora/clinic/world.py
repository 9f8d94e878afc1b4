"""The clinic world: questions, demonstrations, pairs and gold from one knowledge base and one seed.

Invariants: the same seed gives the same world on every machine; held-out questions, questions of
rounds, questions of reward pairs and questions of demonstrations are four disjoint sets, and no
combination of condition and intent that is held out is met in a round or a pair.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import cycle
from random import Random

from corpora.clinic import answers
from corpora.clinic.answers import Quality, Writer
from corpora.clinic.gold import Grade, Grader
from corpora.clinic.knowledge import Combo, Intent, Knowledge, load_knowledge
from corpora.clinic.pairs import build_pairs, flip_labels
from corpora.clinic.questions import ask, combo_of, question_id
from corpora.clinic.split import Purpose, split
from corpora.conversation import Conversation
from corpora.pool import Pool
from corpora.world import Demonstration, Question, RewardPairs

TRAIN_PAIRS = 11_000
HELDOUT_PAIRS = 400
FLIPPED_SHARE = 0.10
"""Share of the training labels that are wrong, as any annotator's are; held-out ones are clean."""

DEMONSTRATED = (
    answers.GOOD,
    answers.GOOD,
    answers.ONE_WRONG,
    answers.NO_SAFETY,
    answers.REPEATING,
    answers.PADDED,
    answers.PADDED_NO_SAFETY,
    answers.PADDED_NO_SAFETY,
    answers.PADDED_NO_SAFETY,
    answers.PADDED_WRONG,
    answers.PADDED_BROKEN_OFF,
)
"""The qualities in which each combination is demonstrated, once each. Right facts are the rule, so
a policy that imitates this mix knows them; good manners are not, not even at a low temperature, so
it has room to improve."""

DEMONSTRATED_PLAIN = (
    answers.GOOD,
    answers.GOOD,
    answers.ONE_WRONG,
    answers.ONE_WRONG,
    answers.REPEATING,
    answers.BROKEN_OFF,
    answers.PADDED,
    answers.PADDED,
    answers.PADDED,
    answers.PADDED,
    answers.PADDED_WRONG,
)
"""The same where the intent calls for no safety advice."""


class ClinicWorld:
    """The bundled world; implements :class:`corpora.world.World`."""

    name = "clinic"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self.knowledge: Knowledge = load_knowledge()
        self.grader = Grader(self.knowledge)
        self._split = split(self.knowledge, seed=seed)

    @cached_property
    def digest(self) -> str:
        """SHA-256, as hex, over the seed and everything that the methods below give."""
        pairs = self.reward_pairs({})
        content = {
            "world": [self.name, self.seed],
            "demonstrations": [[d.conversation.last, d.response] for d in self.demonstrations()],
            "questions": {
                purpose: [[q.id, q.conversation.last, q.reference] for q in self._asked[purpose]]
                for purpose in Purpose
            },
            "pairs": [pair.to_trl() for pair in (*pairs.train, *pairs.heldout)],
            "gold": [
                self.gold(Question(pair.question_id, pair.conversation), answer)
                for pair in pairs.heldout
                for answer in (pair.chosen, pair.rejected)
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def demonstrations(self) -> Sequence[Demonstration]:
        return self._demonstrations

    def round_questions(self, round_number: int, count: int) -> Sequence[Question]:
        """The questions of one round.

        Raises:
            CorpusError: if a round wants more than there are.
        """
        return Pool("data.round_questions", self._asked[Purpose.ROUNDS]).walk(round_number, count)

    def heldout_questions(self, count: int) -> Sequence[Question]:
        """The first held-out questions.

        Raises:
            CorpusError: if there are fewer than ``count``.
        """
        return Pool("data.heldout_questions", self._asked[Purpose.HELDOUT]).first(count)

    def reward_questions(self, count: int) -> Sequence[Question]:
        """None: the pairs of this world are composed, not sampled."""
        return ()

    def reward_pairs(self, samples: Mapping[str, Sequence[str]]) -> RewardPairs:
        return self._reward_pairs

    def gold(self, question: Question, answer: str) -> float:
        return self.grade(question, answer).total

    def grade(self, question: Question, answer: str) -> Grade:
        """The gold measure with each rule's share."""
        return self.grader.grade(combo_of(question.id), answer)

    def writer(self, rng: Random) -> Writer:
        """A writer that borrows from anywhere."""
        return Writer(self.knowledge, rng, lenders=self.knowledge.combos)

    @cached_property
    def _demonstrations(self) -> tuple[Demonstration, ...]:
        rng = Random(f"{self.seed}/demonstrations")
        writer = self.writer(rng)
        shown = [
            self._demonstrate(combo, phrasing, writer.write(combo, quality))
            for combo in self.knowledge.combos
            for phrasing, quality in self._mix(combo, rng)
        ]
        rng.shuffle(shown)
        return tuple(shown)

    def _mix(self, combo: Combo, rng: Random) -> Iterator[tuple[int, Quality]]:
        qualities = demonstrated_qualities(combo.intent)
        shuffled = rng.sample(qualities, len(qualities))
        return zip(cycle(self._split.demonstrated(combo)), shuffled, strict=False)

    def _demonstrate(self, combo: Combo, phrasing: int, response: str) -> Demonstration:
        return Demonstration(Conversation.ask(ask(self.knowledge, combo, phrasing)), response)

    @cached_property
    def _reward_pairs(self) -> RewardPairs:
        rng = Random(f"{self.seed}/pairs")
        train, heldout = self._asked[Purpose.REWARD_TRAIN], self._asked[Purpose.REWARD_HELDOUT]
        clean = build_pairs(self.knowledge, train, TRAIN_PAIRS, rng=rng)
        return RewardPairs(
            train=flip_labels(clean, FLIPPED_SHARE, rng=rng),
            heldout=build_pairs(self.knowledge, heldout, HELDOUT_PAIRS, rng=rng),
        )

    @cached_property
    def _asked(self) -> Mapping[Purpose, tuple[Question, ...]]:
        return {purpose: self._questions(purpose) for purpose in Purpose}

    def _questions(self, purpose: Purpose) -> tuple[Question, ...]:
        rng = Random(f"{self.seed}/{purpose}")
        writer = self.writer(rng)
        questions = [
            Question(
                id=question_id(combo, phrasing),
                conversation=Conversation.ask(ask(self.knowledge, combo, phrasing)),
                reference=writer.write(combo, answers.GOOD),
            )
            for combo, phrasing in self._split.questions(purpose)
        ]
        rng.shuffle(questions)
        return tuple(questions)


def demonstrated_qualities(intent: Intent) -> tuple[Quality, ...]:
    """The qualities in which the base policy meets a combination of this intent."""
    return DEMONSTRATED if intent.needs_safety_advice else DEMONSTRATED_PLAIN
