"""Multiple-choice questions: what every suite's reader makes of its records.

Knows no layout and no prompt. Options are in the order in which they are shown, and their letters
run from A without a gap, so that a letter and a place say the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

from corpora.errors import CorpusError


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question with one right option.

    Raises:
        CorpusError: if there are fewer than two options, one is empty, their letters do not run
            from A, or the answer is none of them.
    """

    id: str
    """The data's own name for it, or its place where it has none."""

    question: str
    options: Mapping[str, str]
    """Letter → text, in order."""

    answer: str
    """The letter of the right option."""

    subset: str = ""
    """Subject or part of the suite, where the data tells."""

    context: tuple[str, ...] = ()
    """Paragraphs that the question is about, such as an abstract."""

    details: Mapping[str, object] = field(default_factory=dict)
    """What else the record says that results should carry on."""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise CorpusError("question: is empty; give its text")
        if len(self.options) < 2:
            raise CorpusError(f"options: {len(self.options)} of them; a choice needs two or more")
        expected = ascii_uppercase[: len(self.options)]
        if list(self.options) != list(expected):
            letters = ", ".join(self.options)
            raise CorpusError(f"options: the letters are {letters}; let them run from A in order")
        for letter, text in self.options.items():
            if not text.strip():
                raise CorpusError(f"options.{letter}: is empty; give its text")
        if self.answer not in self.options:
            raise CorpusError(
                f"answer: {self.answer!r} is none of the options {', '.join(self.options)}; give"
                " the letter of one"
            )

    @property
    def digest(self) -> str:
        """16 hex digits over all that is asked and the right answer, whatever the id."""
        content = [self.question, dict(self.options), self.answer, self.context]
        canonical = json.dumps(content, ensure_ascii=True)  # half a surrogate pair must not fail
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def lettered(texts: Sequence[str]) -> dict[str, str]:
    """Options that the data gives as a list, with letters.

    Raises:
        CorpusError: if there are more than letters.
    """
    if len(texts) > len(ascii_uppercase):
        raise CorpusError(f"options: {len(texts)} of them; there are letters for 26")
    return dict(zip(ascii_uppercase, texts, strict=False))


def letter_at(place: int, *, field: str, options: int) -> str:
    """The letter of an option that the data names by its place, counted from 0.

    Raises:
        CorpusError: naming ``field`` if there is no such place.
    """
    if not 0 <= place < options:
        raise CorpusError(
            f"{field}: {place} is none of 0 to {options - 1}; count options from 0, and take a"
            " split whose answers are published"
        )
    return ascii_uppercase[place]
