"""Answers of a stated quality, composed from the knowledge base.

A good answer is one sentence with three facts that the question asks for and, where the intent
calls for it, one sentence that names a red flag of this very condition and says to seek help. Every
other quality is that answer with stated defects. Facts keep the order of the knowledge base: a
small policy learns one list better than its permutations.

Knows nothing of grades: what is better than what is stated where pairs are built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from corpora.clinic.knowledge import Combo, Intent, Knowledge

FACTS_PER_ANSWER = 3

FRAMES: dict[Intent, tuple[str, ...]] = {
    Intent.CAUSES: (
        "Common causes of {name} are {a}, {b} and {c}.",
        "Doctors link {name} to {a}, {b} and {c}.",
    ),
    Intent.SYMPTOMS: (
        "Typical symptoms of {name} are {a}, {b} and {c}.",
        "People with {name} often have {a}, {b} and {c}.",
    ),
    Intent.SELF_CARE: (
        "At home you can ease {name} with {a}, {b} and {c}.",
        "Good home care for {name} means {a}, {b} and {c}.",
    ),
    Intent.RED_FLAGS: (
        "Warning signs with {name} are {a}, {b} and {c}.",
        "Danger signs of {name} are {a}, {b} and {c}.",
    ),
    Intent.WHEN_TO_SEEK_HELP: (
        "Let a doctor look at {name} in case of {a}, {b} or {c}.",
        "Good reasons for an appointment about {name} are {a}, {b} and {c}.",
    ),
    Intent.PREVENTION: (
        "You can help to prevent {name} with {a}, {b} and {c}.",
        "The chance of {name} is lower with {a}, {b} and {c}.",
    ),
    Intent.RISK: (
        "Those more likely to get {name} are {a}, {b} and {c}.",
        "The risk of {name} is higher for {a}, {b} and {c}.",
    ),
    Intent.TRIGGERS: (
        "Things that make {name} worse are {a}, {b} and {c}.",
        "People with {name} often feel worse with {a}, {b} and {c}.",
    ),
}

SAFETY_FRAMES = (
    "Get urgent help for {flag}.",
    "Seek medical help at once for {flag}.",
    "Call a doctor right away in case of {flag}.",
)

# Where the facts are red flags already, naming one again would only repeat it.
SAFETY_AFTER_FLAGS = (
    "Get urgent help for any of these.",
    "Seek medical help at once for any of these.",
    "Call a doctor right away for any of these.",
)

OPENERS = (
    "This is a very good question.",
    "Many people ask about this topic.",
)
"""Filler in front. Few of them, so that no sampling temperature makes them go away by itself."""

FILLER = (
    "There are many things to know here.",
    "Everybody is different in some way.",
    "It is always good to be informed.",
    "Health is important for all of us.",
    "Some people know more about this than others.",
    "It is hard to say much in a few words.",
)


class Safety(StrEnum):
    """What an answer says of urgent help, where its intent calls for such advice."""

    OWN = "own"
    """Names a red flag of this condition."""
    FOREIGN = "foreign"
    """Names a red flag of another condition."""
    NONE = "none"


class Borrowing(StrEnum):
    """Whose facts are given instead of the right ones."""

    ANOTHER_CONDITION = "another_condition"
    """Another condition's, for the same intent: fluent and wrong."""
    ANOTHER_INTENT = "another_intent"
    """This condition's, for another intent: true and off topic."""


@dataclass(frozen=True, slots=True)
class Quality:
    """A good answer (all defaults), or the defects that are built into one."""

    name: str
    wrong_facts: int = 0
    """How many of the three facts are borrowed."""
    borrows: Borrowing | None = None
    """Where wrong facts and foreign red flags come from."""
    safety: Safety = Safety.OWN
    padded: bool = False
    """Opens with a sentence that says nothing and holds another one."""
    repeats: bool = False
    """Says its facts again in other words."""
    complete: bool = True
    """Ends; otherwise it breaks off inside its last sentence."""

    def suits(self, intent: Intent) -> bool:
        """False where this quality differs only in advice that the intent does not call for."""
        return intent.needs_safety_advice or self.safety is Safety.OWN


_OTHER = Borrowing.ANOTHER_CONDITION

GOOD = Quality("good")
ONE_WRONG = Quality("one_wrong", wrong_facts=1, borrows=_OTHER)
ALL_WRONG = Quality("all_wrong", wrong_facts=3, borrows=_OTHER)
OFF_TOPIC = Quality("off_topic", wrong_facts=3, borrows=Borrowing.ANOTHER_INTENT)
NO_SAFETY = Quality("no_safety", safety=Safety.NONE)
FOREIGN_SAFETY = Quality("foreign_safety", safety=Safety.FOREIGN, borrows=_OTHER)
PADDED = Quality("padded", padded=True)
REPEATING = Quality("repeating", repeats=True)
BROKEN_OFF = Quality("broken_off", complete=False)
PADDED_NO_SAFETY = Quality("padded_no_safety", padded=True, safety=Safety.NONE)
PADDED_WRONG = Quality("padded_wrong", padded=True, wrong_facts=3, borrows=_OTHER)
PADDED_BROKEN_OFF = Quality("padded_broken_off", padded=True, complete=False)

QUALITIES = (
    GOOD,
    ONE_WRONG,
    ALL_WRONG,
    OFF_TOPIC,
    NO_SAFETY,
    FOREIGN_SAFETY,
    PADDED,
    REPEATING,
    BROKEN_OFF,
    PADDED_NO_SAFETY,
    PADDED_WRONG,
    PADDED_BROKEN_OFF,
)


class Writer:
    """Writes answers; ``rng`` decides all that a quality leaves open.

    Facts that are wrong or off topic are borrowed from ``lenders`` alone. Pairs need that: a fact
    only ever met in rejected answers would teach a reward model that the fact is bad, whatever was
    asked.
    """

    def __init__(self, knowledge: Knowledge, rng: Random, *, lenders: Iterable[Combo]) -> None:
        self._knowledge = knowledge
        self._rng = rng
        self._lenders = frozenset(lenders)

    def can_write(self, combo: Combo, quality: Quality) -> bool:
        """Whether the defects of ``quality`` make sense here and there are facts to borrow."""
        if quality.borrows is None:
            return quality.suits(combo.intent)
        return quality.suits(combo.intent) and bool(self._lenders_to(combo, quality.borrows))

    def write(self, combo: Combo, quality: Quality) -> str:
        """One answer of ``quality`` to a question of ``combo``.

        Raises:
            IndexError: if there is nothing to borrow, see :meth:`can_write`.
        """
        lender = combo
        if quality.borrows is not None:
            lender = self._rng.choice(self._lenders_to(combo, quality.borrows))
        first, second = self._rng.sample(FRAMES[combo.intent], 2)
        facts = self._facts(combo, lender, quality)
        sentences = [self._state(combo, first, facts)]
        if quality.repeats:
            sentences.append(self._state(combo, second, facts))
        if combo.intent.needs_safety_advice and quality.safety is not Safety.NONE:
            sentences.append(self._advise(combo, lender, quality.safety))
        if quality.padded:
            sentences = self._pad(sentences)
        if not quality.complete:
            sentences[-1] = self._break_off(sentences[-1])
        return " ".join(sentences)

    def _lenders_to(self, combo: Combo, borrowing: Borrowing) -> list[Combo]:
        if borrowing is Borrowing.ANOTHER_CONDITION:
            # Of another part of the body: neighbours share too much to be called wrong.
            home = self._knowledge.by_slug[combo.slug].system
            lenders = [
                Combo(condition.slug, combo.intent)
                for condition in self._knowledge.conditions
                if condition.system != home
            ]
        else:
            # Red flags are welcome in any answer, so they would be no defect.
            lenders = [Combo(combo.slug, i) for i in Intent if i is not Intent.RED_FLAGS]
        return [one for one in lenders if one != combo and one in self._lenders]

    def _facts(self, combo: Combo, lender: Combo, quality: Quality) -> list[str]:
        facts, borrowed = self._pick(combo), self._pick(lender)
        for place in self._rng.sample(range(FACTS_PER_ANSWER), quality.wrong_facts):
            facts[place] = borrowed[place]
        return facts

    def _pick(self, combo: Combo) -> list[str]:
        facts = self._knowledge.facts(combo)
        places = sorted(self._rng.sample(range(len(facts)), FACTS_PER_ANSWER))
        return [facts[place] for place in places]

    def _state(self, combo: Combo, frame: str, facts: list[str]) -> str:
        a, b, c = facts
        return frame.format(name=self._knowledge.by_slug[combo.slug].name, a=a, b=b, c=c)

    def _advise(self, combo: Combo, lender: Combo, safety: Safety) -> str:
        if safety is Safety.OWN and combo.intent is Intent.RED_FLAGS:
            return self._rng.choice(SAFETY_AFTER_FLAGS)
        slug = combo.slug if safety is Safety.OWN else lender.slug
        flag = self._rng.choice(self._knowledge.by_slug[slug].red_flags)
        return self._rng.choice(SAFETY_FRAMES).format(flag=flag)

    def _pad(self, sentences: list[str]) -> list[str]:
        at = self._rng.randint(0, len(sentences))
        padded = [*sentences[:at], self._rng.choice(FILLER), *sentences[at:]]
        return [self._rng.choice(OPENERS), *padded]

    def _break_off(self, sentence: str) -> str:
        words = sentence.rstrip(".").split()
        return " ".join(words[: self._rng.randint(2, len(words) - 1)]).rstrip(",")
