"""Questions: eight intents in six phrasings, asked of every condition.

An id is stable: ``clinic/<condition>/<intent>/<phrasing>``, for example
``clinic/migraine/symptoms/2``. Phrasings of one intent share its keywords, so that a phrasing
never met with one condition is understood from the others.
"""

from __future__ import annotations

from corpora.clinic.knowledge import Combo, Intent, Knowledge
from corpora.errors import CorpusError

PHRASINGS: dict[Intent, tuple[str, ...]] = {
    Intent.CAUSES: (
        "What causes {name}?",
        "What is the cause of {name}?",
        "Why do people get {name}?",
        "What can lead to {name}?",
        "What are common causes of {name}?",
        "Why would someone get {name}?",
    ),
    Intent.SYMPTOMS: (
        "What are the symptoms of {name}?",
        "How can I tell that I have {name}?",
        "Which symptoms come with {name}?",
        "What does it feel like to have {name}?",
        "What are typical symptoms of {name}?",
        "How would I notice {name}?",
    ),
    Intent.SELF_CARE: (
        "What can I do at home for {name}?",
        "What helps with {name} at home?",
        "How can I treat {name} myself?",
        "How do I ease {name}?",
        "Which home care helps with {name}?",
        "What can I do myself to ease {name}?",
    ),
    Intent.RED_FLAGS: (
        "What are the warning signs with {name}?",
        "Which signs make {name} an emergency?",
        "What danger signs come with {name}?",
        "When is it an emergency to have {name}?",
        "Which warning signs with {name} are urgent?",
        "What are urgent danger signs of {name}?",
    ),
    Intent.WHEN_TO_SEEK_HELP: (
        "When should I see a doctor about {name}?",
        "When should a doctor look at {name}?",
        "Should I see a doctor for {name}?",
        "When is it time to see a doctor with {name}?",
        "At what point does a doctor need to look at {name}?",
        "Do I need a doctor for {name}?",
    ),
    Intent.PREVENTION: (
        "How can I prevent {name}?",
        "How do I avoid getting {name}?",
        "What lowers the chance of {name}?",
        "What can prevent {name}?",
        "Is there a way to prevent {name}?",
        "How can I lower my chance of {name}?",
    ),
    Intent.RISK: (
        "Who is at risk of {name}?",
        "Who gets {name} most often?",
        "Who is more likely to have {name}?",
        "Which people are at risk of {name}?",
        "Which people are more likely to get {name}?",
        "Who has a high risk of {name}?",
    ),
    Intent.TRIGGERS: (
        "What makes {name} worse?",
        "What can make {name} worse?",
        "Which things make {name} worse?",
        "What is bad for {name}?",
        "Which things are bad for {name}?",
        "What should I stay away from with {name}?",
    ),
}
"""Six phrasings an intent; ``{name}`` is the condition as it stands in a sentence."""

PHRASING_COUNT = 6


def question_id(combo: Combo, phrasing: int) -> str:
    """The stable id of a question; :func:`combo_of` reads it back."""
    return f"clinic/{combo.slug}/{combo.intent}/{phrasing}"


def combo_of(identity: str) -> Combo:
    """The condition and the intent that a question id names.

    Raises:
        CorpusError: if the id is not of the form that :func:`question_id` makes.
    """
    parts = identity.split("/")
    intents = {intent.value: intent for intent in Intent}
    if len(parts) != 4 or parts[0] != "clinic" or parts[2] not in intents:
        raise CorpusError(f"id: {identity!r} is no clinic/<condition>/<intent>/<phrasing>")
    return Combo(parts[1], intents[parts[2]])


def ask(knowledge: Knowledge, combo: Combo, phrasing: int) -> str:
    """The text of a question."""
    name = knowledge.by_slug[combo.slug].name
    return PHRASINGS[combo.intent][phrasing].format(name=name)
