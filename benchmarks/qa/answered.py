"""What is kept of a question once it was asked: a line of a journal.

Everything that is computed afterwards, votes and scores, re-ranking too, needs these lines only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from benchmarks.errors import ScoresError
from benchmarks.results import Document
from foundation.journal import read_journal

Mode = Literal["greedy", "self-consistency", "likelihood"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Sample(Document):
    """One answer."""

    text: str
    letter: str | None
    """The option that it chooses."""

    tokens: int
    finish_reason: str


class Answered(Document):
    """One question in one mode. It has a choice, or none, or an error in place of both."""

    mode: Mode
    number: int
    """Place among the questions of the suite, counted from 0."""

    id: str
    digest: str
    """Of what was asked (:attr:`corpora.questions.choice.ChoiceQuestion.digest`)."""

    section: str
    """Under which name tables have it."""

    subset: str
    answer: str
    """The letter of the right option."""

    choice: str | None = None
    """Of all samples together; ``null`` where none chooses an option."""

    samples: tuple[Sample, ...] = ()
    scores: dict[str, float] | None = None
    """Of each option, where likelihood chose."""

    error: str | None = None
    """Why there is no answer: in no score."""

    @property
    def is_right(self) -> bool:
        """Whether the right option was chosen, of a question without error."""
        assert self.error is None, "a failed question is neither right nor wrong"
        return self.choice == self.answer


def journal_path(folder: Path, suite: str) -> Path:
    """Where the answers of a suite are."""
    return folder / f"answers-{suite}.jsonl"


def read_answered(path: Path) -> Iterator[Answered]:
    """The lines of a journal; of a question that was asked again, each time.

    Raises:
        ScoresError: naming the line and field that do not fit.
    """
    if not path.is_file():
        return
    for number, fields in enumerate(read_journal(path), start=1):
        try:
            yield Answered.model_validate(fields, strict=False)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "content"
            raise ScoresError(
                f"{path}:{number}: {field}: {problem['msg']}; begin anew with --restart"
            ) from None
