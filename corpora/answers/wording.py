"""Answers made plain before they are read: signs, mark-up and what belongs to another turn.

Pure. Every pattern takes time that grows no faster than the text does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_THOUGHT_END = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_NEXT_TURN = re.compile(
    r"^[^\w\n]*(?:question|user|human|patient|instruction|input) ?(?:\d+ ?)?:|<\|",
    re.IGNORECASE | re.MULTILINE,
)
_LATEX_FONT = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|textit|textrm|texttt|rm|bf)\s*\{([^{}]*)(?:\}|\Z)"
)
_LATEX_BOX = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)(?:\}|\Z)")
_ANSWER_TAG = re.compile(r"<\s*(?:final_)?answer\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z_]+\s*/?>")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*|__([^_\n]+)__")
_MARKS = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}|^[^\S\n]*[#>]+|[$]|[*]{2}", re.MULTILINE)
_QUOTES = str.maketrans("’‘“”", "''\"\"")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'])|\n+")

BOXED = re.compile(r"^boxed: (.*)$", re.MULTILINE)
"""What stood in a TeX box, in a text that was made plain."""


def said(text: str) -> str:
    """The answer without thoughts and without signs that only look different.

    Thoughts that are never closed mean that the answer never began: nothing is left.
    """
    text = plain_signs(text)
    ends = list(_THOUGHT_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    start = _THOUGHT_START.search(text)
    return text[: start.start()] if start else text


def plain_signs(text: str) -> str:
    """The text in compatible characters, with straight quotes."""
    return unicodedata.normalize("NFKC", text).translate(_QUOTES)


def plain(text: str) -> str:
    """The text without mark-up, runs of spaces and empty lines; see :data:`BOXED`."""
    text = _LATEX_FONT.sub(r"\1", text)
    text = _LATEX_BOX.sub(r"\nboxed: \1\n", text)
    text = _TAG.sub(" ", _ANSWER_TAG.sub(" the answer is: ", text))
    return spaced(_MARKS.sub("", text).replace("\\", " "))


def spaced(text: str) -> str:
    """The text without runs of spaces and without empty lines."""
    return re.sub(r" ?\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text)).strip()


def bold(text: str) -> list[str]:
    """What is set in bold in a text that was not made plain."""
    return [plain(span[1] or span[2]) for span in _BOLD.finditer(text)]


def turns(text: str) -> Iterator[str]:
    """The text, cut where it invents a next question.

    A model without an end of turn goes on with questions of its own, whose answers are not ours.
    """
    starts = [start.start() for start in _NEXT_TURN.finditer(text)]
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        if text[start:end].strip():
            yield text[start:end]


def sentences(text: str) -> list[str]:
    """The sentences of the text."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
