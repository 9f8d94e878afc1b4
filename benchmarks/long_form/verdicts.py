"""What a judge is asked about an answer and a statement, and what it said.

K-QA asks two things of each pair (arXiv 2401.14493, section 4): does the answer entail the
statement, does it contradict the statement. Both are asked in words of our own; the judge may think
first and ends with ``Verdict: true`` or ``Verdict: false``. Pure.
"""

from __future__ import annotations

import re
from typing import Literal

from corpora.conversation import Conversation

Relation = Literal["entails", "contradicts"]

_INSTRUCTIONS = {
    "entails": (
        "Decide whether the answer entails the statement: a reader who takes the answer for true"
        " must also take the statement for true. What the answer leaves out, only hints at, or"
        " limits to other cases is not entailed. Wording does not matter, meaning does."
    ),
    "contradicts": (
        "Decide whether the answer contradicts the statement: the two cannot both be true. An"
        " answer that does not mention the matter, gives other examples, or leaves the statement"
        " possible does not contradict it."
    ),
}

_VERDICT = re.compile(r"\bverdict\b\W*(?:is\b\W*)?(true|false|yes|no)\b", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?:^|\banswer is\b|:)\W*(true|false)\W*\Z", re.IGNORECASE | re.MULTILINE)
_EITHER = re.compile(
    r"\b(?:true|yes)\b\W*(?:/|\bor\b)\W*(?:verdict\W*)?(?:false|no)\b", re.IGNORECASE
)
"""What decides nothing: the choice itself, repeated."""


def question_for(relation: Relation, *, question: str, answer: str, statement: str) -> Conversation:
    """What the judge is asked."""
    return Conversation.ask(
        "You are a physician who checks answers to patients.\n\n"
        f"{_INSTRUCTIONS[relation]}\n\n"
        f"<question>\n{question}\n</question>\n\n"
        f"<answer>\n{answer}\n</answer>\n\n"
        f"<statement>\n{statement}\n</statement>\n\n"
        "Think briefly, then end with one line: Verdict: true or Verdict: false."
    )


def read_verdict(text: str) -> bool | None:
    """What the judge decided; ``None`` where it did not.

    The last ``Verdict:`` counts, else a last line, or an "answer is", of true or false alone.
    """
    text = _EITHER.sub("", text)
    stated = _VERDICT.findall(text) or _LAST_WORD.findall(text)
    return stated[-1].lower() in ("true", "yes") if stated else None
