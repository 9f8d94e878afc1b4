"""The option that a policy finds likeliest: for models too small to answer in words.

Options are scored by letter, with all of them in sight, or by text, with none of them (the cloze
form). The sum of log-probabilities falls with the length of a text, so it can be divided by its
tokens or by its bytes; lm-evaluation-harness calls the choice by sums ``acc`` and the one by bytes
``acc_norm``. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.qa.prompts import LEAD
from corpora.questions.choice import ChoiceQuestion

ScoredBy = Literal["letter", "text"]
Normalise = Literal["none", "tokens", "bytes"]


@dataclass(frozen=True, slots=True)
class Continuations:
    """What the policy is to go on with, after a lead: a text for each letter."""

    lead: str
    texts: Mapping[str, str]


def continuations(question: ChoiceQuestion, scored_by: ScoredBy) -> Continuations:
    """What each option is scored as."""
    if scored_by == "letter":
        return Continuations(LEAD, {letter: f"{letter})" for letter in question.options})
    return Continuations("", {letter: text.strip() for letter, text in question.options.items()})


def is_likelihood(logprobs: Sequence[float]) -> bool:
    """Whether these can be summed: of one token or more, each finite."""
    return bool(logprobs) and all(map(math.isfinite, logprobs))


def option_score(logprobs: Sequence[float], text: str, *, normalise: Normalise) -> float:
    """How likely an option is, in nats: in all, a token, or a byte.

    Args:
        logprobs: of its tokens, as :func:`is_likelihood` wants them.
        text: what was scored.
        normalise: what the sum is divided by.
    """
    lengths = {"none": 1, "tokens": len(logprobs), "bytes": len(text.encode())}
    return math.fsum(logprobs) / lengths[normalise]


def likeliest(scores: Mapping[str, float]) -> str:
    """The letter with the highest score, of equals the first."""
    return max(scores, key=lambda letter: scores[letter])
