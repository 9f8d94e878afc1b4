"""Medical Meadow's JSON as a world of real questions and answers.

The format is medAlpaca's: a list of ``{"instruction", "input", "output"}``. The world is made for
a small policy that is trained here, so answers are shortened to whole leading sentences, and for
an honest measure, so topics are split: no topic, question or answer serves two purposes.

It does not know whether an answer is right, for its gold is the overlap with the reference, nor
that two names mean one disease: "throat cancer" and "laryngeal cancer" are two topics.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.overlap import rouge_l, tokens
from corpora.pool import Pool
from corpora.preference import Pair
from corpora.records import Record, read_json
from corpora.world import Demonstration, Question, RewardPairs
from foundation.cache import content_key, digest_files

LONGEST_WORDS = 70
"""Answers keep the leading sentences that fit. In tokens of a vocabulary of 4,096 trained on them:
63 on average, 95 % at most 112, the longest 225; questions have 12, at most 32."""

SHORTEST_WORDS = 8
"""Shorter answers are dropped: half of one is a word or two, not a sentence cut off."""

Purpose = Literal["demonstration", "reward", "round", "heldout"]

SHARES: Mapping[Purpose, float] = {
    "demonstration": 0.60,
    "reward": 0.16,
    "round": 0.14,
    "heldout": 0.10,
}
"""Share of the topics that each purpose gets."""

REWARD_HELDOUT_SHARE = 0.15
"""Share of the reward topics whose pairs measure the reward model, at least one topic."""

MIN_TOPICS = 20
"""With fewer, a purpose could be left without a question."""

Reason = Literal["wiki editing", "short answer", "long sentences", "repeated"]

_WIKI = re.compile(
    r"wiki|editor|svg|gallery|microchapter|disease name|project name|section should|typing this"
    r"|here you can list|following code|click (?:here|on)|\b(?:page|font|redirect)\b"
    r"|\{\{|\[\[|\||</?[a-z]+>",
    re.IGNORECASE,
)
"""Leftovers of the wiki that the data was taken from: help for its editors, templates, markup."""

_SENTENCE_END = re.compile(
    r"(?<![A-Z])(?<!\s\d)[.!?][\"”’)]*(?=\s+[\"“(]?[A-Z0-9]|[A-Z][a-z])|\n|\Z"
)
"""A stop before a capital (the data often lacks the space between) but not after an initial or
the number of a list; else the end of a line or of the text."""

_TOPIC = re.compile(
    r"(?:.*\b(?:symptoms?|causes?|risks?|types|prognosis|care) (?:of|for)"
    r"|what causes|when to seek urgent medical care when i have|what to expect if i have"
    r"|who (?:is|are) at (?:the )?(?:highest |high )?risk (?:of|for)"
    r"|how (?:do i|to) know (?:if )?(?:i|you) have|where to find centers that (?:perform|do)"
    r"|who needs|why is|how is|how to prepare for|what to expect (?:before|after))"
    r" (?:an? |the )?(?P<topic>.+?)"
    r"(?: (?:patient information|outlook prognosis|diagnosis|done|performed))*"
)
"""The patient-information forms, over a question's tokens joined by spaces."""


@dataclass(frozen=True, slots=True)
class Meadow:
    """The usable questions of a file, in its order, and how many records it lost to what."""

    questions: Sequence[Question]
    dropped: Mapping[Reason, int]


class MedicalMeadowWorld:
    """Questions, demonstrations and reward pairs from a file of Medical Meadow.

    Of the 5,942 records of ``medical_meadow_small.json`` (WikiDoc's patient information) 5,265 are
    usable, on 1,506 topics. Dropped are 390 that repeat an earlier question or answer, 124 with
    less than 8 words of answer, 73 whose first sentences are too long to keep 8 words, and 90
    leftovers of the wiki; a handful of questions for its editors slip through. One answer in three
    is shortened. With seed 7 the purposes have 3,132, 851, 758 and 524 questions in the order of
    ``SHARES``, the demonstrations 231,000 tokens.

    Topics do not cross purposes, the source's phrases do ("Call for an appointment with your health
    care provider if …"): 4 of 100 held-out references overlap with one of the demonstrations by
    ROUGE-L above 0.7.

    Args:
        path: the file.
        seed: of the split, the order of questions and the rejected answers.

    Raises:
        CorpusError: naming file, record and field of the first record that does not fit, or that
            the file has too few topics to split.
    """

    name = "medical-meadow"

    def __init__(self, path: Path, seed: int) -> None:
        meadow = read_medical_meadow(path)
        self.dropped = meadow.dropped
        self._seed = seed
        self._pools = _split(meadow.questions, seed=seed, source=path)
        self.sizes = {purpose: len(pool.questions) for purpose, pool in self._pools.items()}
        self.digest = content_key(
            {
                "world": self.name,
                "file": digest_files(path),
                "seed": seed,
                "words": [SHORTEST_WORDS, LONGEST_WORDS],
                "shares": [*SHARES.values(), REWARD_HELDOUT_SHARE],
                "rules": [_WIKI.pattern, _SENTENCE_END.pattern, _TOPIC.pattern],
            }
        )

    def demonstrations(self) -> Sequence[Demonstration]:
        """Question and shortened reference, each once."""
        return [
            Demonstration(question.conversation, _reference(question))
            for question in self._pools["demonstration"].questions
        ]

    def round_questions(self, round_number: int, count: int) -> Sequence[Question]:
        """The questions of one round.

        Raises:
            CorpusError: if a round wants more than there are.
        """
        return self._pools["round"].walk(round_number, count)

    def heldout_questions(self, count: int) -> Sequence[Question]:
        """The first held-out questions.

        Raises:
            CorpusError: if there are fewer than ``count``.
        """
        return self._pools["heldout"].first(count)

    def reward_questions(self, count: int) -> Sequence[Question]:
        """The first questions of the reward pairs.

        Raises:
            CorpusError: if there are fewer than ``count``.
        """
        return self._pools["reward"].first(count)

    def reward_pairs(self, samples: Mapping[str, Sequence[str]]) -> RewardPairs:
        """Three pairs a question; the reference is always chosen.

        Rejected are the first sample, another question's reference at least as long, and the
        reference cut off half way. A sample that is empty or says what the reference says makes
        no pair. Train and held-out share no topic and no reference. The longer answer is the
        chosen one in half of the pairs if samples are as long as references, and in 0.6 of them
        if no sample has more than 25 words.

        Args:
            samples: answers of the base policy by question id; the first of each is used.

        Raises:
            CorpusError: if there are no samples, or an id is not one of :meth:`reward_questions`.
        """
        asked = self._asked(samples)
        topics = _shuffled({topic(question) for question in asked}, f"{self._seed}/reward")
        held = set(topics[: max(1, round(REWARD_HELDOUT_SHARE * len(topics)))])
        train = [question for question in asked if topic(question) not in held]
        heldout = [question for question in asked if topic(question) in held]
        return RewardPairs(
            train=list(_pairs(train, samples, seed=self._seed)),
            heldout=list(_pairs(heldout, samples, seed=self._seed)),
        )

    def gold(self, question: Question, answer: str) -> float | None:
        """ROUGE-L against the shortened reference, which the loop does not see."""
        return None if question.reference is None else rouge_l(answer, question.reference)

    def _asked(self, samples: Mapping[str, Sequence[str]]) -> Sequence[Question]:
        pool = self._pools["reward"].questions
        if not samples:
            raise CorpusError(
                f"data.reward_questions: the pairs of {self.name} need answers of the base policy; "
                f"set data.reward_questions=N, at most {len(pool)}"
            )
        asked = [question for question in pool if question.id in samples]
        strangers = samples.keys() - {question.id for question in asked}
        if strangers:
            raise CorpusError(
                f"samples: {min(strangers)!r} is no reward question of {self.name} with seed "
                f"{self._seed}; sample what reward_questions gives"
            )
        return asked


def read_medical_meadow(path: Path) -> Meadow:
    """The usable records of a file; the id of record 17, counted from 1, is ``record-17``.

    An instruction that all records share says nothing and is left out; where instructions differ
    each stands above its input.

    Raises:
        CorpusError: naming file, record and field of the first record that does not fit.
    """
    records = read_json(path)
    is_shared = len({record.text("instruction") for record in records}) == 1
    seen: set[tuple[str, ...]] = set()
    dropped: Counter[Reason] = Counter()
    questions = []
    for record in records:
        text = _question_text(record, is_shared=is_shared)
        answer = shorten(record.text("output"))
        keys = {("question", *tokens(text)), ("answer", *tokens(answer))}
        reason = _flaw(text, answer, record.text("output")) or ("repeated" if keys & seen else None)
        if reason:
            dropped[reason] += 1
            continue
        seen |= keys
        questions.append(Question(f"record-{record.number}", Conversation.ask(text), answer))
    return Meadow(questions, dropped)


def shorten(answer: str) -> str:
    """The leading sentences or lines of at most ``LONGEST_WORDS`` words; empty if none fits.

    Never ends in a line that only announces the next one ("Symptoms may include:").
    """
    answer = answer.strip()
    kept = ""
    for end in _SENTENCE_END.finditer(answer):
        lead = answer[: end.end()].rstrip()
        if len(lead.split()) > LONGEST_WORDS:
            break
        if not lead.endswith((":", ",", ";")):
            kept = lead
    return kept


def topic(question: Question) -> str:
    """What a question is about, its words in alphabetical order; the whole question if unclear.

    "What causes Acute renal failure?" and "Who is at risk for renal failure, acute?" agree.
    """
    words = tokens(question.conversation.last)
    form = _TOPIC.fullmatch(" ".join(words))
    return " ".join(sorted(form["topic"].split() if form else words))


def _question_text(record: Record, *, is_shared: bool) -> str:
    instruction, given = record.text("instruction"), record.text("input")
    parts = [given] if is_shared and given.strip() else [instruction, given]
    # The wiki's page names are percent-encoded, and a space stands before its question marks.
    text = "\n\n".join(" ".join(unquote(part).split()) for part in parts if part.strip())
    if not text:
        raise CorpusError(f"{record.where}: input: empty, and so is instruction; give a question")
    return text.replace(" ?", "?")


def _flaw(question: str, answer: str, output: str) -> Reason | None:
    if len(output.split()) < SHORTEST_WORDS:
        return "short answer"
    if len(answer.split()) < SHORTEST_WORDS:
        return "long sentences"
    return "wiki editing" if _WIKI.search(f"{question}\n{answer}") else None


def _split(questions: Sequence[Question], *, seed: int, source: Path) -> Mapping[Purpose, Pool]:
    by_topic: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_topic[topic(question)].append(question)
    if len(by_topic) < MIN_TOPICS:
        raise CorpusError(
            f"data.path: {source}: {len(by_topic)} topics in {len(questions)} usable records; "
            f"give at least {MIN_TOPICS} topics, so that every purpose has questions of its own"
        )
    topics = _shuffled(by_topic, f"{seed}/topics")
    cuts = [0, *(round(share * len(topics)) for share in accumulate(SHARES.values()))]
    pools: dict[Purpose, Pool] = {}
    for purpose, (start, end) in zip(SHARES, pairwise(cuts), strict=True):
        pool = [question for name in topics[start:end] for question in by_topic[name]]
        order = random.Random(f"{seed}/{purpose}").sample(pool, k=len(pool))
        pools[purpose] = Pool(f"data.{purpose}_questions", order)
    return pools


def _pairs(
    questions: Sequence[Question], samples: Mapping[str, Sequence[str]], *, seed: int
) -> Iterator[Pair]:
    lengths = {_reference(question): len(_reference(question).split()) for question in questions}
    for question in questions:
        reference = _reference(question)
        chance = random.Random(f"{seed}/{question.id}")
        rejected = [
            *samples[question.id][:1],
            *_another(reference, lengths, chance),
            _cut_off(reference, chance),
        ]
        for answer in rejected:
            if tokens(answer) not in ([], tokens(reference)):
                yield Pair(question.conversation, reference, answer, question_id=question.id)


def _another(reference: str, lengths: Mapping[str, int], chance: random.Random) -> Sequence[str]:
    """One other reference, at least as long where there is one: wrong must not mean short."""
    others = [other for other in lengths if other != reference]
    as_long = [other for other in others if lengths[other] >= lengths[reference]]
    return [chance.choice(as_long or others)] if others else []


def _cut_off(reference: str, chance: random.Random) -> str:
    """The first 40 to 60 % of the words, and not a whole number of sentences if that can be."""
    words = list(re.finditer(r"\S+", reference))
    middle = words[round(0.4 * len(words)) - 1 : round(0.6 * len(words))]
    inside = [word for word in middle if word[0][-1] not in ".!?:;,"]
    return reference[: chance.choice(inside or middle).end()]


def _reference(question: Question) -> str:
    assert question.reference is not None
    return question.reference


def _shuffled(keys: Iterable[str], seed: str) -> list[str]:
    ordered = sorted(keys)
    return random.Random(seed).sample(ordered, k=len(ordered))
