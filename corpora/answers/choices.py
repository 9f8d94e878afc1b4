r"""Which option an answer in free text chooses, if any.

Evidence is looked for in this order, and the first kind that is there decides:

1. the last TeX box that names an option, ``\boxed{C}``, unless "wait, it is D" follows;
2. the last statement of an answer: "the answer is C", "Answer: C", "I choose C", "wait, it is C";
3. the last verdict on an option: "option C is correct", "so C.", "C) Sildenafil: correct";
4. the one option that is set in bold;
5. an answer that is an option: a label or an option's text at the start, or alone at the end;
6. the only option that is mentioned and not ruled out, in the last sentence and then in all of
   the text.

A letter counts before a text that goes on after it ("D) Sildenafil" is D whatever D says), and a
text before a letter that only begins it ("E. coli"). What is ruled out ("not A", "neither A nor
B"), named with others ("A or B"), supposed ("if …, the answer would be B") or left to be inferred
is no choice, and no letter that may be an article or belong to a name ("a drug", "B cell") is
read. Where nothing is chosen the answer is ``None``: there is no guess.

Pure. Knows no question; its wording is English. Takes time that grows no faster than the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from corpora.answers.targets import REACH, Targets
from corpora.answers.wording import BOXED, bold, plain, said, sentences, turns

LETTERS: Mapping[str, str] = MappingProxyType(dict.fromkeys("ABCDEFGHIJ", ""))
"""Options of which nothing is known but that they have letters, and at most ten."""

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

_ANSWER_ALONE = re.compile(
    r"^[^\w\n]*(?:final\s+)?(?:answer|ans)\b\.?(?=\s*\(?[A-Z]\)?\W*$)", _FLAGS
)
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
_CONDITION = re.compile(r"\b(?:if|unless|whether)\b", re.IGNORECASE)
_DENIED = re.compile(r"n't\b|\b(?:not|cannot|unable|never|neither|no|which|what)\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:no|not|never|wrong|incorrect|if|unless|whether)|n't)\s+"
    r"(?:(?:the|an?|my|most|correct|right|best|final)\s+){0,3}$",
    re.IGNORECASE,
)

_VERDICT = re.compile(
    r",?\s+(?:(?:fits|matches|suits|explains)\b[^.\n]{0,30}?\bbest\b|(?:is|was|would\s+be|seems"
    r"|appears|remains)\s+(?:\w+ly\s+)?(?:to\s+be\s+)?(?:the\s+|my\s+)?"
    r"(?:single\s+|only\s+)?(?:(?:most|best)\s+)?(?:correct|right|best|true|answer|appropriate"
    r"|likely|suitable|accurate|(?:one|option|choice)\s+(?:left|remaining|that\s+fits))\b)"
    r"(?!\s+(?:if|only|when|except|in|for)\b)",
    re.IGNORECASE,
)
"""Says of what stands before it that it is right."""

_SENTENCE = re.compile(r"[.;!?]\s|\n")
_CLAUSE = re.compile(r"[.;!?]\s|\n|,\s+(?:and|but|while|whereas)\s")
_THEREFORE = re.compile(
    r"\b(?:so|thus|therefore|hence|consequently|it'?s|it\s+is|that's|this\s+is|which\s+is"
    r"|must\s+be|in\s+(?:conclusion|summary|short)|overall|conclude|leaves|leaving|left\s+with)\b[\s,:]*"
    r"(?:(?:it\s+is|it's|with|only|us|we\s+have)\b[\s,:]*)*",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"(?<!not )(?<!n't )(?<!never )(?<!cannot )"
    r"\b(?:choose|select|pick|go(?:ing)?\s+with|opt\s+for)\b",
    re.IGNORECASE,
)
_ENDING = re.compile(r"\b(?:is|be)\b\s*(?:option\s+)?\(?([A-Z])\)?\W*$")
_RIGHT = re.compile(r"(?<!not )(?<!in)\b(?:correct|right|true|yes)\b|[✓✔✅]", re.IGNORECASE)
_WRONG = re.compile(r"\b(?:incorrect|wrong|false|not?|unlikely|less)\b|n't\b|[✗✘❌]", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b(?:cannot|can't|could\s+not|unable|not\s+able|don't\s+know|not\s+sure|unclear"
    r"|whether|insufficient|not\s+enough|not\s+possible|impossible\s+to)\b|\bas\s+an\s+AI\b",
    re.IGNORECASE,
)


def extract_choice(
    text: str, options: Mapping[str, str] = LETTERS, *, is_cut: bool = False
) -> str | None:
    """The letter of the option that ``text`` chooses, or ``None`` where it chooses none.

    Args:
        text: an answer.
        options: letter → text of the options; letters are capital. An option without a text is
            known by its letter only.
        is_cut: whether the answer ran into a limit. What is set in bold or merely mentioned is
            then no choice, since the conclusion may be what is missing.
    """
    targets = Targets(options)
    answer = said(text)
    whole = plain(answer)
    for turn in turns(whole):
        if letter := _boxed(turn, targets) or _last(turn, targets, _STATEMENTS):
            return letter
    if letter := _judged(whole, targets):
        return letter
    if is_cut:
        return _opening(whole, targets)
    return _bold(answer, targets) or _opening(whole, targets) or _mentioned(whole, targets)


def _boxed(text: str, targets: Targets) -> str | None:
    for box in reversed(list(BOXED.finditer(text))):
        if letter := targets.read(box[1]):
            return _last(text[box.end() :], targets, _CORRECTIONS) or letter
    return None


def _announced(text: str, match: re.Match[str], targets: Targets) -> str | None:
    """The option that follows the announcement of an answer."""
    before = _before(text, match, _SENTENCE)
    is_supposed = "would" in match.group() and _SUPPOSED.search(before + match.group())
    if is_supposed or _DENIED.search(match.group()) or _DENIED_BEFORE.search(before):
        return None
    return targets.read(_behind(text, match, targets))


def _paused(text: str, match: re.Match[str], targets: Targets) -> str | None:
    """The option that follows, if the text pauses behind it."""
    return targets.read_bare(_behind(text, match, targets))


def _advised(text: str, match: re.Match[str], targets: Targets) -> str | None:
    """The option that follows, but where it is for another case."""
    if _SUPPOSED.search(_before(text, match, _SENTENCE)):
        return None
    return _paused(text, match, targets)


def _found_right(text: str, match: re.Match[str], targets: Targets) -> str | None:
    """The option that a verdict is about."""
    clause = _before(text, match, _CLAUSE, targets.reach)
    supposed = _SUPPOSED if "would" in match.group() else _CONDITION
    if _REFUSED.search(clause) or supposed.search(clause):
        return None
    return targets.subject(clause)


def _before(text: str, match: re.Match[str], boundary: re.Pattern[str], reach: int = REACH) -> str:
    """What stands before the match, back to a boundary."""
    return boundary.split(text[max(0, match.start() - reach) : match.start()])[-1]


def _behind(text: str, match: re.Match[str], targets: Targets) -> str:
    return text[match.end() : match.end() + targets.reach]


Reader = Callable[[str, re.Match[str], Targets], str | None]
"""What a match says of which option is chosen."""

_CORRECTIONS: tuple[tuple[re.Pattern[str], Reader], ...] = ((_CORRECTED, _paused),)
_STATEMENTS: tuple[tuple[re.Pattern[str], Reader], ...] = (
    *_CORRECTIONS,
    (_ANSWER, _announced),
    (_ANSWER_ALONE, _announced),
    (_PICK, _announced),
)
_VERDICTS: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (_VERDICT, _found_right),
    (_THEREFORE, _paused),
    (_ADVICE, _advised),
)


def _last(
    text: str, targets: Targets, readers: Iterable[tuple[re.Pattern[str], Reader]]
) -> str | None:
    """What the last match says that says anything."""
    found = [(match, read) for pattern, read in readers for match in pattern.finditer(text)]
    found.sort(key=lambda each: each[0].start(), reverse=True)
    return next(filter(None, (read(text, match, targets) for match, read in found)), None)


def _judged(text: str, targets: Targets) -> str | None:
    if letter := _last(text, targets, _VERDICTS):
        return letter
    right = {
        label.letter
        for line in text.splitlines()
        if (label := targets.label_at(line))
        and _RIGHT.search(label.remark)
        and not _WRONG.search(label.remark)
    }
    return right.pop() if len(right) == 1 else None


def _bold(answer: str, targets: Targets) -> str | None:
    """The option that is set in bold, if it is one and is not said to be wrong."""
    labels = [targets.label_at(span) for span in bold(answer)]
    letters = {label.letter for label in labels if label}
    return letters.pop() if len(letters) == 1 else None


def _opening(text: str, targets: Targets) -> str | None:
    """An answer that is an option, or begins or ends with one."""
    lines = _lines(text)
    if not lines:
        return None
    labels = [label for line in lines if (label := targets.label_at(line))]
    letters = [label.letter for label in labels]
    if len(set(letters)) > 1:
        return _outside_list(letters)
    if targets.unlisted(text) != text or any(label.is_ruled_out for label in labels):
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
    ending = _ENDING.search(last)
    if ending and (letter := targets.letter(ending[1])):
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
