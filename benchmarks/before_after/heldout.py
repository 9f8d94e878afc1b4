"""The run's own held-out questions, and what is kept of each answer: a line of a journal.

Gold and lengths are computed from the lines afterwards, so a line keeps the texts. Both versions
are in one journal, a question's answers beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from benchmarks.errors import ScoresError
from benchmarks.results import Document
from corpora.world import Question
from foundation.cache import content_key
from foundation.journal import read_journal

HeldoutMode = Literal["sampled", "greedy", "references"]
HELDOUT_MODES: tuple[HeldoutMode, ...] = get_args(HeldoutMode)

JOURNAL = "heldout.jsonl"


class Draw(Document):
    """One candidate."""

    text: str
    tokens: int
    finish_reason: str


class HeldoutAnswer(Document):
    """One question to one version in one mode: draws, or a log-probability, or an error."""

    mode: HeldoutMode
    version: str
    number: int
    """Place among the questions, counted from 0."""

    id: str
    digest: str
    draws: tuple[Draw, ...] = ()
    logprob_per_token: float | None = None
    """Mean over the tokens of the known answer, in nats."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class Heldout:
    """What is asked: held-out questions of a world, in order."""

    world: str
    questions: Sequence[Question]
    modes: tuple[HeldoutMode, ...]
    versions: tuple[str, ...]
    total: int
    """Held-out questions that the run has."""

    @property
    def name(self) -> str:
        """In tables; no suite can be called so."""
        return f"{self.world} world"

    def asked(self, mode: HeldoutMode) -> list[tuple[int, Question]]:
        """The questions of a mode with their numbers: all, or those with a known answer."""
        return [
            (number, question)
            for number, question in enumerate(self.questions)
            if mode != "references" or question.reference
        ]


def digest_of(question: Question) -> str:
    """16 hex digits over what is asked and the known answer, whatever the id."""
    return content_key(
        {"messages": question.conversation.to_dicts(), "reference": question.reference}
    )


def read_heldout(path: Path) -> Iterator[HeldoutAnswer]:
    """The lines of a journal; of a question that was asked again, each time.

    Raises:
        ScoresError: naming the line and field that do not fit.
    """
    for number, fields in enumerate(read_journal(path), start=1):
        try:
            yield HeldoutAnswer.model_validate(fields, strict=False)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "content"
            raise ScoresError(
                f"{path}:{number}: {field}: {problem['msg']}; begin anew with --restart"
            ) from None
