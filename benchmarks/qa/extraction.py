r"""Which option an answer in free text chooses, if any.

Evidence is looked for in this order, and the first kind that is there decides:

1. the last statement of an answer: "the answer is C", "Answer: C", ``\boxed{C}``, "I choose C",
   "wait, it is C";
2. the last verdict on an option: "option C is correct", "so C.", "C) Sildenafil: correct";
3. an answer that is an option: a label or an option's text at the start, or alone at the end;
4. the only option that is mentioned and not ruled out, in the last sentence and then in all of
   the text.

A letter counts before a text that goes on after it ("D) Sildenafil" is D whatever D says), and a
text before a letter that only begins it ("E. coli"). What is ruled out ("not A", "neither A nor
B"), named with others ("A or B"), supposed ("if …, the answer would be B") or left to be inferred
is no choice. Where nothing is chosen the answer is ``None``: there is no guess.

Pure. Knows no question; its wording is English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from benchmarks.qa.targets import Targets
from benchmarks.qa.wording import clean, sentences, turns

_FLAGS = re.IGNORECASE | re.MULTILINE

_IS = (
    r"(?:\b(?:is|was|are|(?:would|must|should|will)\s+(?:\w+ly\s+|therefore\s+)?be|has\s+to\s+be"
    r"|(?:appears|seems)\s+to\s+be)\b|(?<=answer)'s\b|=|:|->|=>|→|[–—]|\s-\s)"
)
_ANSWER = re.compile(
    r"\b(?:answers?|ans|correct\s+(?:option|choice|one|letter)|(?:best|right|final)\s+(?:option"
    r"|choice)|(?:option|choice|selection|pick|final)(?=\s*[:=])|correction(?=\s*:)|correct(?=\s*:))"
    rf"(?:_?(?:choice|letter|idx|option))?\b[^.:=\n]{{0,60}}?[\"'\s]*{_IS}",
    _FLAGS,
)
"""Announces an answer; what follows is the target."""

_ANSWER_ALONE = re.compile(r"^\W*(?:final\s+)?(?:answer|ans)\b\.?(?=\s*\(?[A-Z]\)?\W*$)", _FLAGS)
_PICK = re.compile(
    r"\b(?:I|we|I'(?:d|ll)|I'm)\b[^.\n]{0,30}?\b(?:choose|chose|select|pick|going\s+with"
    r"|go\s+with|opt\s+for|vote\s+for|answer)\b",
    re.IGNORECASE,
)
_CORRECTED = re.compile(
    r"(?:\b(?:wait|actually|correction|sorry|rather|scratch\s+that|on\s+second\s+thought)\b[,:;.!–—]*"
    r"|(?<=[.!?;]\s)no\b[,:–—]+)[^\S\n]*"
    r"(?:(?:wait|actually|no|sorry|I\s+mean|it'?s|it\s+is|that's|should\s+be|must\s+be|rather|make"
    r"\s+it|is)\b[,:]*[^\S\n]*)*(?=[^\n])",
    re.IGNORECASE,
)
"""Takes an earlier answer back; what follows must be a bare option."""

_SUPPOSED = re.compile(r"\b(?:if|unless|were|had)\b", re.IGNORECASE)
_DENIED = re.compile(r"n't\b|\b(?:not|cannot|unable|never|neither|no|which|what)\b", re.IGNORECASE)

_VERDICT = re.compile(
    r",?\s+(?:(?:fits|matches|suits|explains)\b[^.\n]{0,30}?\bbest\b|(?:is|was|seems|appears|remains)\s+(?:\w+ly\s+)?(?:to\s+be\s+)?(?:the\s+|my\s+)?"
    r"(?:single\s+|only\s+)?(?:(?:most|best)\s+)?(?:correct|right|best|true|answer|appropriate"
    r"|likely|suitable|accurate|(?:one|option|choice)\s+(?:left|remaining|that\s+fits))\b)"
    r"(?!\s+(?:if|only|when|except|in|for)\b)",
    re.IGNORECASE,
)
"""Says of what stands before it that it is right."""

_CLAUSE = re.compile(r"[.;!?]\s|\n|,\s+(?:and|but|while|whereas)\s")
_THEREFORE = re.compile(
    r"\b(?:so|thus|therefore|hence|consequently|it'?s|it\s+is|that's|this\s+is|which\s+is"
    r"|must\s+be|in\s+(?:conclusion|summary|short)|overall|conclude|leaves|leaving|left\s+with)\b[\s,:]*"
    r"(?:(?:it\s+is|it's|with|only|us|we\s+have)\b[\s,:]*)*",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\b(?:is|be)\b")
_RIGHT = re.compile(r"(?<!not )(?<!in)\b(?:correct|right|true|yes)\b|[✓✔✅]", re.IGNORECASE)
_WRONG = re.compile(r"\b(?:incorrect|wrong|false|not?|unlikely|less)\b|n't\b|[✗✘❌]", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b(?:cannot|can't|could\s+not|unable|not\s+able|don't\s+know|not\s+sure|unclear"
    r"|whether|insufficient|not\s+enough|not\s+possible|impossible\s+to)\b|\bas\s+an\s+AI\b",
    re.IGNORECASE,
)


def extract_choice(text: str, options: Mapping[str, str], *, is_cut: bool = False) -> str | None:
    """The letter of the option that ``text`` chooses, or ``None`` where it chooses none.

    Args:
        text: an answer.
        options: letter → text of the options; letters are capital.
        is_cut: whether the answer ran into a limit. A mere mention is then no choice, since the
            conclusion may be what is missing.
    """
    targets = Targets(options)
    whole = clean(text)
    for turn in turns(whole):
        if stated := _stated(turn, targets):
            return stated
    kinds = [_judged, _opening] if is_cut else [_judged, _opening, _mentioned]
    return next((letter for kind in kinds if (letter := kind(whole, targets))), None)


def _stated(text: str, targets: Targets) -> str | None:
    found: list[tuple[int, str]] = []
    for pattern, read in (
        (_ANSWER, targets.read),
        (_ANSWER_ALONE, targets.read),
        (_PICK, targets.read),
        (_CORRECTED, targets.read_bare),
    ):
        found += _each(text, pattern, read)
    return max(found)[1] if found else None


def _each(
    text: str, pattern: re.Pattern[str], read: Callable[[str], str | None]
) -> Iterator[tuple[int, str]]:
    """The options behind each match, with their places."""
    for match in pattern.finditer(text):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        clause = re.split(r"[.!?;]\s", before)[-1] + match.group()
        if "would" in match.group() and _SUPPOSED.search(clause):
            continue
        if pattern is not _CORRECTED and _DENIED.search(match.group()):
            continue
        if letter := read(text[match.end() :]):
            yield match.start(), letter


def _judged(text: str, targets: Targets) -> str | None:
    verdicts = [
        (match.start(), letter)
        for match in _VERDICT.finditer(text)
        if not _REFUSED.search(clause := _CLAUSE.split(text[: match.start()])[-1])
        if (letter := targets.subject(clause))
    ]
    verdicts += _each(text, _THEREFORE, targets.read_bare)
    if verdicts:
        return max(verdicts)[1]
    right = {
        label.letter
        for line in text.splitlines()
        if (label := targets.label_at(line))
        and _RIGHT.search(label.remark)
        and not _WRONG.search(label.remark)
    }
    return right.pop() if len(right) == 1 else None


def _opening(text: str, targets: Targets) -> str | None:
    """An answer that is an option, or begins or ends with one."""
    lines = _lines(text)
    if not lines:
        return None
    labels = [label for line in lines if (label := targets.label_at(line))]
    letters = [label.letter for label in labels]
    if len(set(letters)) > 1:
        return _outside_list(letters)
    if targets.unlisted(text) != text:
        return None
    if labels and (labels[0].is_whole or len(targets.labels(text)) < 2):
        return letters[0]
    ends = (targets.read_alone(end) for end in (lines[-1], sentences(text)[-1]))
    return targets.read_bare(lines[0]) or next(filter(None, ends), None)


def _outside_list(letters: list[str]) -> str | None:
    """The label that a list does not go on with: lists run upwards, answers precede or follow."""
    if letters[1] <= letters[0]:
        return letters[0]
    return letters[-1] if letters[-1] <= letters[-2] else None


def _mentioned(text: str, targets: Targets) -> str | None:
    if _REFUSED.search(text):
        return None
    listed = {label.letter for line in _lines(text) if (label := targets.label_at(line))}
    if len(listed) > 1:
        text = "\n".join(line for line in _lines(text) if not targets.label_at(line))
    text = targets.unlisted(text)
    spoken = sentences(text)
    last = spoken[-1] if spoken else ""
    if letter := next((found for _, found in _each(last, _ENDS, targets.read_ending)), None):
        return letter
    for part in (last, text):
        labels = targets.labels(part)
        if len(labels) == 1 and targets.bare_letters(part) <= labels:
            return labels.pop()
        if not labels and (letter := targets.only_text(part)):
            return letter
    return None


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
