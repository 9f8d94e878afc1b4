"""The gold measure: grades an answer in [0, 1] by rules over the knowledge base.

The text is cut into sentences, the sentences at punctuation and at *and* and *or* into pieces, and
facts are found in the pieces: longest match first, blind to case, articles, prepositions and a
plural *s*. Of what is found

    facts        + 0.55 × right facts / 3, at most three: facts of the condition for this intent
    safety       + 0.30 if a red flag of the condition is named and help is said to be sought
    ending       + 0.15 if the text ends in a full stop, not on a dangling word, and says something
                   right: a right fact or the safety advice
    wrong_facts  - 0.12 for each fact that is true of other conditions only
    off_topic    - 0.12 for each fact of this condition that answers another question; red flags
                   are welcome anywhere
    repetition   - 0.12 for each fact named again and each word said twice in a row
    padding      - 0.12 for each sentence without any fact and without a call to seek help

and the total is their sum, held within [0, 1]. Where the intent calls for no safety advice,
0.85 is for facts and none for safety. All mistakes cost the same, so no mistake can hide another:
a wrong fact never raises the total, a missing right one never lowers it, and neither padding nor
listing all one knows pays.

The loop never sees this: it is what the loop is judged by, not what it optimises.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from itertools import pairwise

from corpora.clinic.knowledge import Combo, Intent, Knowledge
from corpora.errors import CorpusError

FACTS_WANTED = 3
FACTS_SHARE, SAFETY_SHARE, ENDING_SHARE = 0.55, 0.30, 0.15
MISTAKE_COST = 0.12

_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_BREAK = re.compile(r"[^\w\s'-]|\b(?:and|or)\b")
_WORD = re.compile(r"[a-z0-9]+")
_UNSPOKEN = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "with", "by", "your", "my"}
)
_DANGLING = frozenset({"a", "an", "the", "and", "or", "of", "for", "with", "by", "your", "if"})
_HELP = re.compile(
    r"\b(?:get|seek|need|find|call|see|contact|visit|go to)\b(?: \w+){0,3} "
    r"(?:help|care|attention|doctor|ambulance|hospital|emergency|clinic)\b"
)

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grade:
    """Each rule's share: gains are positive, costs negative."""

    facts: float = 0.0
    safety: float = 0.0
    ending: float = 0.0
    wrong_facts: float = 0.0
    off_topic: float = 0.0
    repetition: float = 0.0
    padding: float = 0.0

    @property
    def total(self) -> float:
        shares: tuple[float, ...] = astuple(self)
        return min(1.0, max(0.0, sum(shares)))


class Grader:
    """Grades answers against one knowledge base; builds its index of facts once."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._true_of = _index(knowledge)
        self._longest = max(len(words) for words in self._true_of)

    def grade(self, combo: Combo, answer: str) -> Grade:
        """Grades an answer to a question of ``combo``.

        Raises:
            CorpusError: if the knowledge base has no such condition.
        """
        if combo.slug not in self._knowledge.by_slug:
            raise CorpusError(f"id: no condition {combo.slug!r} in the clinic world")
        text = " ".join(answer.lower().split())
        reading = self._read(text)
        tally = self._tally(combo, set(reading.facts))
        facts, safety = _earned(combo.intent, tally, seeks_help=reading.seeks_help)
        again = len(reading.facts) - len(set(reading.facts)) + reading.stutters
        return Grade(
            facts=facts,
            safety=safety,
            ending=ENDING_SHARE if facts + safety > 0 and _ends(text) else 0.0,
            wrong_facts=-MISTAKE_COST * tally.wrong,
            off_topic=-MISTAKE_COST * tally.off_topic,
            repetition=-MISTAKE_COST * again,
            padding=-MISTAKE_COST * reading.empty_sentences,
        )

    def _read(self, text: str) -> _Reading:
        reading = _Reading()
        for sentence in _SENTENCE.findall(text):
            if not _WORD.search(sentence):
                continue
            pieces = _BREAK.split(sentence)
            facts = [fact for piece in pieces for fact in self._find(normalise(piece))]
            seeks_help = bool(_HELP.search(sentence))
            reading.facts += facts
            reading.seeks_help |= seeks_help
            reading.empty_sentences += not facts and not seeks_help
            reading.stutters += sum(_stutters(piece) for piece in pieces)
        return reading

    def _find(self, words: Words) -> Iterator[Words]:
        start = 0
        while start < len(words):
            for end in range(min(len(words), start + self._longest), start, -1):
                if words[start:end] in self._true_of:
                    yield words[start:end]
                    start = end
                    break
            else:
                start += 1

    def _tally(self, combo: Combo, facts: set[Words]) -> _Tally:
        tally = _Tally()
        for fact in facts:
            true_of = self._true_of[fact]
            is_red_flag = Combo(combo.slug, Intent.RED_FLAGS) in true_of
            tally.red_flags += is_red_flag
            if combo in true_of:
                tally.right += 1
            elif all(other.slug != combo.slug for other in true_of):
                tally.wrong += 1
            elif not is_red_flag:
                tally.off_topic += 1
        return tally


@dataclass(slots=True)
class _Reading:
    """What a text holds, whatever it was asked for."""

    facts: list[Words] = field(default_factory=list)
    """In the order of the text, each as often as it is named."""
    seeks_help: bool = False
    empty_sentences: int = 0
    stutters: int = 0


@dataclass(slots=True)
class _Tally:
    """How many distinct facts of a reading are what, for one combination."""

    right: int = 0
    red_flags: int = 0
    wrong: int = 0
    off_topic: int = 0


def normalise(text: str) -> Words:
    """The words that facts are compared by: lower case, no articles, prepositions or plural s."""
    return tuple(_singular(w) for w in _WORD.findall(text.lower()) if w not in _UNSPOKEN)


def _stutters(piece: str) -> int:
    return sum(first == second for first, second in pairwise(_WORD.findall(piece)))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _index(knowledge: Knowledge) -> Mapping[Words, frozenset[Combo]]:
    index: defaultdict[Words, set[Combo]] = defaultdict(set)
    for combo in knowledge.combos:
        for fact in knowledge.facts(combo):
            index[normalise(fact)].add(combo)
    return {words: frozenset(combos) for words, combos in index.items()}


def _earned(intent: Intent, tally: _Tally, *, seeks_help: bool) -> tuple[float, float]:
    coverage = min(1.0, tally.right / FACTS_WANTED)
    if not intent.needs_safety_advice:
        return (FACTS_SHARE + SAFETY_SHARE) * coverage, 0.0
    return FACTS_SHARE * coverage, SAFETY_SHARE * (tally.red_flags > 0 and seeks_help)


def _ends(text: str) -> bool:
    words = _WORD.findall(text)
    return text.rstrip("\"')").endswith((".", "!", "?")) and words[-1] not in _DANGLING
