"""Answers made plain before they are read: signs, mark-up and what belongs to another turn.

Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_THOUGHT_END = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_NEXT_TURN = re.compile(
    r"^\W*(?:question|user|human|patient|instruction|input)\s*(?:\d+\s*)?:|^#+\s*(?:instruction"
    r"|input|question)|<\|",
    re.IGNORECASE | re.MULTILINE,
)
_LATEX_BOX = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_LATEX_FONT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|textit|texttt|rm|bf)\s*\{([^{}]*)\}")
_ANSWER_TAG = re.compile(r"<\s*(?:final_)?answer\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z_]+\s*/?>")
_MARKS = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}|^\s*[#>]+\s*|[$]|[*]{2}", re.MULTILINE)
_QUOTES = str.maketrans("’‘“”", "''\"\"")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'])|\n+")


def clean(text: str) -> str:
    """The answer without thoughts, mark-up and signs that only look different.

    Thoughts that are never closed mean that the answer never began: nothing is left.
    """
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    ends = list(_THOUGHT_END.finditer(text))
    if ends:
        text = text[ends[-1].end() :]
    elif start := _THOUGHT_START.search(text):
        text = text[: start.start()]
    text = _LATEX_FONT.sub(r"\1", text)
    text = _LATEX_BOX.sub(r" the answer is: \1 ", text)
    text = _TAG.sub(" ", _ANSWER_TAG.sub(" the answer is: ", text))
    return _MARKS.sub("", text).replace("\\", " ").strip()


def turns(text: str) -> Iterator[str]:
    """The text up to where it invents a next question, piece by piece, then the whole of it.

    A model without an end of turn goes on with questions of its own, whose answers are not ours.
    """
    for start in _NEXT_TURN.finditer(text):
        if text[: start.start()].strip():
            yield text[: start.start()]
    yield text


def sentences(text: str) -> list[str]:
    """The sentences of the text."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
