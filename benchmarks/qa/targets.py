"""Options as they are named in a text: by letter, by place or by what they say.

Pure. Knows nothing of the words around them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_NAMES = (
    "vitamin",
    "hepatitis",
    "type",
    "group",
    "influenza",
    "protein",
    "factor",
    "class",
    "stage",
)
"""Words whose letter belongs to them: "hepatitis B" is no option B."""

_NO_NAME = "".join(rf"(?<!\b{name} )" for name in _NAMES)
_BARE = re.compile(rf"(?i:{_NO_NAME})(?<![\w'-])([A-Z])(?![\w'-])")
_SUBJECT = re.compile(
    _NO_NAME + r"(?<![\w'-])([A-Z])\)?\]?(?:[.):,]\s+[^\n]{1,80})?\s*$",
    re.IGNORECASE,
)
"""A letter at the end of a clause, or a letter and what its option says."""

_FILLER = re.compile(
    r"(?:[^\w(]+|\((?!\w\))|\b(?:the\s+)?(?:correct|right|best|final)?\s*(?:option|choice|answer"
    r"|letter|alternative)\b|\b(?:is|clearly|definitely|certainly|most\s+likely|likely|probably"
    r"|therefore|thus|indeed|simply|but|to\s+be|that\s+of|as\s+follows|going\s+to\s+be|with|for)\b)+",
    re.IGNORECASE,
)
_RULED_OUT = re.compile(
    r"\b(?:not|neither|nor|rather\s+than|instead\s+of|other\s+than|unlike|except|excluding"
    r"|ruled?\s+out|exclude|eliminate)\s+(?:the\s+)?(?:[Oo]ptions?\s+|[Cc]hoices?\s+|answers?\s+)?"
    r"\(?[A-Z]\)?(?!\w)(?:\s*(?:,\s*(?:or|and)?|or|and|nor|/)\s*\(?[A-Z]\)?(?!\w))*"
)
_DISMISSED = re.compile(
    r"(?:[Oo]ptions?\s+|[Cc]hoices?\s+)?\(?\b[A-Z]\b\)?(?:\s*(?:,\s*(?:or|and)?|or|and|/)\s*\(?[A-Z]"
    r"\b\)?)*\s*(?:[.):]\s*[^.\n]{0,60}?)?\s*(?:is|are|can\s+be|could\s+be|would\s+be|:|-|–)\s+(?:all\s+"
    r"|both\s+|also\s+|clearly\s+)*(?:incorrect|wrong|not\b|ruled\s+out|excluded|eliminated"
    r"|unlikely|false|less\b|n't)"
)
_LETTER = re.compile(r"[(\[]?([A-Za-z])(?![\w']|-\w)([)\]]?)")
_SECOND_LETTER = re.compile(
    r"\s*(?:and/or|and|or|&|/|\+|,\s*(?:and|or)?)\s*(?:option\s+|choice\s+)?[(\[]?([A-Z])(?![\w'])"
)
_DELIMITER = re.compile(r"\s*(?:[.,;:!?)\]\"'–—]|$)|\s*-\s|\s+-")
_AFTER_A = re.compile(
    r"\s+(?:because|since|as|due|given|based|which|and|but|while|whereas|is|per|according)\b"
)
_PAUSE = r"\W*$|[^\w\s/]|\s+(?:because|since|as)\b"
_PLACES = ("first", "second", "third", "fourth", "fifth")
_PLACE = re.compile(
    r"(?:the\s+)?(first|second|third|fourth|fifth|last)\s+(?:one|option|choice|answer"
    r"|alternative|statement)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_NAMED_LABEL = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s+\(?([A-Z])\b|\b[Cc]hoice\s+\(?([A-Z])\b")
_LABEL = re.compile(
    r"\W*(?:(?:option|choice|answer)\s+)?\(?((?-i:[A-Z])|[a-z](?=[.)]))\)?\s*"
    r"(?:[.):,\]](?!\w\.)|[-–—]\s|(?<=\))|$)",
    re.IGNORECASE,
)

_EVERYDAY = frozenset({"yes", "no", "maybe", "none", "all", "both", "normal"})
"""Option texts that are said without meaning the option."""

SHORTEST_TEXT = 3
"""Characters of an option's text that a mere mention may name it by."""


@dataclass(frozen=True, slots=True)
class Label:
    """An option's letter at the start of a line."""

    letter: str
    is_whole: bool
    """Whether nothing follows, or the option's own text."""

    remark: str
    """What the line says behind the option's text."""


class Targets:
    """The options of one question, to be found in texts."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    @cached_property
    def _texts(self) -> list[tuple[str, str]]:
        """Text as it is compared, and letter; the longest first, so that no part hides a whole."""
        plain = [(_plain(text), letter) for letter, text in self._options.items()]
        return sorted(((t, letter) for t, letter in plain if t), key=lambda each: -len(each[0]))

    def letter(self, letter: str) -> str | None:
        """The letter, if it is an option's."""
        return letter.upper() if letter.upper() in self._options else None

    def read(self, target: str) -> str | None:
        """The one option that a text goes on with, by letter, place or text."""
        line = _first_line(target)
        line = _RULED_OUT.sub(" ", line)
        line = line[_filler_end(line) :]
        if re.match(r"(?:not|neither|nor|none\s+of\s+these)\b|n't", line, re.IGNORECASE):
            return None
        return (
            self._text_at(line)
            or self._letter_at(line)
            or self._place_at(line)
            or self.only_text(re.split(r"[.!?;](?:\s|$)", line)[0])
        )

    def read_bare(self, target: str) -> str | None:
        """The option that a text goes on with and then pauses: "C.", "yes, …", "(b) because"."""
        line = _first_line(target)
        line = line[_filler_end(line) :]
        text = self._text_at(line, pauses=True)
        if text:
            return text
        match = _LETTER.match(line)
        if not match or not self.letter(match.group(1)) or self._text_at(line):
            return None
        rest = line[match.end() :]
        is_marked = bool(match.group(2)) or match.group(1).isupper() or not rest.strip(" .!)")
        pauses = _DELIMITER.match(rest) or re.match(r"\s+(?:because|since)\b", rest)
        if not is_marked or not pauses or self._is_shared(match.group(1), rest):
            return None
        return self.letter(match.group(1))

    def read_alone(self, line: str) -> str | None:
        """The option that a line consists of."""
        plain = _plain(line)
        for text, letter in self._texts:
            if plain == text:
                return letter
        match = _LETTER.fullmatch(line.strip(" .!*:-–\"'"))
        return self.letter(match.group(1)) if match else None

    def bare_letters(self, text: str) -> set[str]:
        """The options whose letters stand by themselves, but for those that are words as well."""
        text = _DISMISSED.sub(" ", _RULED_OUT.sub(" ", text))
        found = (self.letter(match.group(1)) for match in _BARE.finditer(text))
        return {letter for letter in found if letter and letter not in "AI"}

    def subject(self, clause: str) -> str | None:
        """The option that a clause is about."""
        match = _SUBJECT.search(clause)
        named = self.letter(match.group(1)) if match and match.group(1).isupper() else None
        return named or self.only_text(clause)

    def unlisted(self, text: str) -> str:
        """The text without a list of options, where it repeats two or more with their letters."""
        listed = [
            rf"\(?\b{letter}\s*[.):]\s*{re.escape(option)}(?!\w)"
            for letter, option in self._options.items()
        ]
        found = [each for each in listed if re.search(each, text, re.IGNORECASE)]
        return re.sub("|".join(found), " ", text, flags=re.IGNORECASE) if len(found) > 1 else text

    def read_ending(self, target: str) -> str | None:
        """The option whose letter ends the sentence here."""
        match = re.match(r"\s*(?:option\s+)?\(?([A-Z])\)?\W*$", target)
        return self.letter(match.group(1)) if match else None

    def label_at(self, line: str) -> Label | None:
        """The label that a line begins with; "E. coli" is none where an option says so."""
        match = _LABEL.match(line)
        letter = self.letter(match.group(1)) if match else None
        if match is None or letter is None or self._text_at(line.lstrip()):
            return None
        rest = line[match.end() :].strip()
        if self._says(letter, rest):
            return Label(letter, True, rest[len(self._options[letter].strip()) :])
        return Label(letter, not rest, rest)

    def labels(self, text: str) -> set[str]:
        """The options whose letters are named as such, and not ruled out."""
        text = _DISMISSED.sub(" ", _RULED_OUT.sub(" ", text))
        return {
            letter
            for groups in _NAMED_LABEL.findall(text)
            for each in groups
            if each and (letter := self.letter(each))
        }

    def only_text(self, text: str) -> str | None:
        """The one option whose text is mentioned; what stands in a longer one is not."""
        plain = _plain(text, keeps_article=True)
        found = set()
        for option, letter in self._texts:
            if len(option) < SHORTEST_TEXT or option in _EVERYDAY:
                continue
            pattern = rf"(?<!\w){re.escape(option)}(?!\w)"
            if re.search(pattern, plain):
                if re.search(
                    rf"\b(?:not|nor|neither|no|without)\s+(?:an?\s+|the\s+)?{pattern}", plain
                ):
                    continue
                found.add(letter)
                plain = re.sub(pattern, " ", plain)
        return found.pop() if len(found) == 1 else None

    def _text_at(self, line: str, *, pauses: bool = False) -> str | None:
        plain = _plain(line.lstrip("("))
        for text, letter in self._texts:
            if len(text) > 1 and plain.startswith(text):
                rest = plain[len(text) :]
                must_pause = pauses or text in _EVERYDAY
                if re.match(_PAUSE if must_pause else r"\W|$", rest):
                    return letter
        return None

    def _letter_at(self, line: str) -> str | None:
        match = _LETTER.match(line)
        if not match:
            return self._single_text(line)
        given, rest = match.group(1), line[match.end() :]
        letter = self.letter(given)
        if letter is None:
            return self._single_text(line)
        if self._is_shared(given, rest):
            return None
        if match.group(2) or _DELIMITER.match(rest):
            return letter
        if given in "aAI":
            return letter if self._says(letter, rest) else self._after_article(given, letter, rest)
        return letter

    def _after_article(self, given: str, letter: str, rest: str) -> str | None:
        """What "a" or "A" means before a word: an article, but where a reason follows."""
        other = self._text_at(rest.strip())
        if other or given == "a":
            return other
        return letter if _AFTER_A.match(rest) else None

    def _says(self, letter: str, rest: str) -> bool:
        return _plain(rest).startswith(_plain(self._options[letter]))

    def _is_shared(self, given: str, rest: str) -> bool:
        """Whether a second option is named in the same breath."""
        second = _SECOND_LETTER.match(rest)
        return (
            second is not None
            and second.group(1) != given.upper()
            and self.letter(second.group(1)) is not None
            and not _AFTER_A.match(rest[second.end() :])
        )

    def _place_at(self, line: str) -> str | None:
        match = _PLACE.match(line)
        if not match:
            return None
        letters, place = list(self._options), match.group(1).lower()
        if place == "last":
            return letters[-1]
        index = _PLACES.index(place)
        return letters[index] if index < len(letters) else None

    def _single_text(self, line: str) -> str | None:
        """The option whose text is a single word, such as a number or a blood group."""
        first = re.match(r"\W*(\w+)", line)
        word = first.group(1).casefold() if first else ""
        texts = (each for each in self._texts if each[0] not in _EVERYDAY)
        return next((letter for text, letter in texts if text == word), None)


def _plain(text: str, *, keeps_article: bool = False) -> str:
    """Lower case, single spaces, no article in front and no full stop at the end."""
    text = " ".join(text.casefold().split()).strip(" .;:,\"'")
    return text if keeps_article else _ARTICLE.sub("", text)


def _first_line(text: str) -> str:
    """The first line with anything in it."""
    return next((line.strip() for line in text.splitlines() if re.search(r"\w", line)), "")


def _filler_end(line: str) -> int:
    match = _FILLER.match(line)
    return match.end() if match else 0
