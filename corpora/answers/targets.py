"""Options as they are named in a text: by letter, by place or by what they say.

Pure. Knows nothing of the words around them. An option whose text is empty can be named by letter
or place only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from corpora.answers import letters
from corpora.answers.wording import plain_signs

_FILLER = re.compile(
    r"(?:[^\w(]+|\((?!\w\))|\b(?:the\s+)?(?:correct|right|best|final)?\s*(?:option|choice|answer"
    r"|letter|alternative)\b|\b(?:is|clearly|definitely|certainly|most\s+likely|likely|probably"
    r"|therefore|thus|indeed|simply|but|to\s+be|that\s+of|as\s+follows|going\s+to\s+be|with|for)\b)+",
    re.IGNORECASE,
)
_NONE_OF_THESE = re.compile(r"(?:not|neither|nor|none\s+of\s+these)\b|n't", re.IGNORECASE)
_PAUSE = re.compile(r"\W*$|[^\w\s/]|\s+(?:because|since|as)\b")
_PART_END = re.compile(r"\W|$")
_BECAUSE = re.compile(r"\s+(?:because|since)\b")
_PLACES = ("first", "second", "third", "fourth", "fifth")
_PLACE = re.compile(
    r"(?:the\s+)?(first|second|third|fourth|fifth|last)\s+(?:one|option|choice|answer"
    r"|alternative|statement)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_WRONG_FIRST = re.compile(
    r"\W*(?:(?:is|are)\s+)?(?:\w+ly\s+)?(?:not|no|incorrect|wrong|false|unlikely|ruled\s+out)\b"
    r"|\W*(?:isn't|[✗✘❌])",
    re.IGNORECASE,
)

_EVERYDAY = frozenset({"yes", "no", "maybe", "none", "all", "both", "normal"})
"""Option texts that are said without meaning the option."""

SHORTEST_TEXT = 3
"""Characters of an option's text that a mere mention may name it by."""

REACH = 300
"""Characters around a word that tells of an option, in which the option is looked for."""


@dataclass(frozen=True, slots=True)
class Label:
    """An option's letter at the start of a line."""

    letter: str
    is_whole: bool
    """Whether nothing follows, or the option's own text."""

    remark: str
    """What the line says behind the option's text."""

    @property
    def is_ruled_out(self) -> bool:
        """Whether the line goes on to say that the option is wrong."""
        return _WRONG_FIRST.match(self.remark) is not None


class Targets:
    """The options of one question, to be found in texts."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = {letter: plain_signs(text) for letter, text in options.items()}
        plain = [(_plain(text), letter) for letter, text in self._options.items()]
        # The longest first, so that no part hides a whole.
        self._texts = sorted(((t, each) for t, each in plain if t), key=lambda each: -len(each[0]))
        self.reach = REACH + max((len(text) for text, _ in self._texts), default=0)

    def letter(self, letter: str) -> str | None:
        """The letter, if it is an option's."""
        return letter.upper() if letter.upper() in self._options else None

    def read(self, target: str) -> str | None:
        """The one option that a text goes on with, by letter, place or text."""
        line = _past_filler(letters.without_rejected(_first_line(target[: self.reach])))
        if _NONE_OF_THESE.match(line):
            return None
        return (
            self._text_at(line)
            or self._letter_at(line)
            or self._place_at(line)
            or self.only_text(re.split(r"[.!?;](?:\s|$)", line)[0])
        )

    def read_bare(self, target: str) -> str | None:
        """The option that a text goes on with and then pauses: "C.", "yes, …", "(b) because"."""
        line = _past_filler(_first_line(target[: self.reach]))
        if text := self._text_at(line, _PAUSE):
            return text
        match = letters.LETTER.match(line)
        letter = self.letter(match.group(1)) if match else None
        if match is None or letter is None or self._text_at(line):
            return None
        rest = line[match.end() :]
        is_marked = bool(match.group(2)) or match.group(1).isupper() or not rest.strip(" .!)")
        pauses = letters.DELIMITER.match(rest) or _BECAUSE.match(rest)
        if not is_marked or not pauses or self._is_shared(letter, rest):
            return None
        return letter

    def read_alone(self, line: str) -> str | None:
        """The option that a line consists of."""
        plain = _plain(line)
        for text, letter in self._texts:
            if plain == text:
                return letter
        match = letters.LETTER.fullmatch(line.strip(" .!*:-–\"'"))
        return self.letter(match.group(1)) if match else None

    def bare_letters(self, text: str) -> set[str]:
        """The options whose letters stand by themselves, but for those that are words as well."""
        matches = letters.BARE.finditer(letters.without_dismissed(text))
        found = (self.letter(match.group(1)) for match in matches)
        return {letter for letter in found if letter and letter not in "AI"}

    def subject(self, clause: str) -> str | None:
        """The one option that a clause is about."""
        clause = letters.without_rejected(clause)
        match = letters.SUBJECT.search(clause)
        if match is None or not match.group(1).isupper():
            return self.only_text(clause)
        if letters.SHARED_BEFORE.search(clause[: match.start(1)]):
            return None
        return self.letter(match.group(1)) or self.only_text(clause)

    def unlisted(self, text: str) -> str:
        """The text without a list of options, where it repeats two or more with their letters."""
        listed = [
            rf"\(?\b{letter}\s*[.):]\s*{re.escape(option)}(?!\w)"
            for letter, option in self._options.items()
            if option
        ]
        found = [each for each in listed if re.search(each, text, re.IGNORECASE)]
        return re.sub("|".join(found), " ", text, flags=re.IGNORECASE) if len(found) > 1 else text

    def label_at(self, line: str) -> Label | None:
        """The label that a line begins with; "E. coli" is none where an option says so."""
        match = letters.LABEL.match(line)
        letter = self.letter(match.group(1)) if match else None
        if match is None or letter is None or self._text_at(line.lstrip()):
            return None
        if self._is_shared(letter, line[match.end(1) : match.end(1) + self.reach]):
            return None
        rest = line[match.end() :].strip()
        if self._says(letter, rest):
            return Label(letter, True, rest[len(self._options[letter].strip()) :])
        return Label(letter, not rest, rest)

    def labels(self, text: str) -> set[str]:
        """The options whose letters are named as such, and not ruled out."""
        return {
            letter
            for groups in letters.NAMED.findall(letters.without_dismissed(text))
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

    def _text_at(self, line: str, end: re.Pattern[str] = _PART_END) -> str | None:
        plain = _plain(line.lstrip("("))
        for text, letter in self._texts:
            if len(text) > 1 and plain.startswith(text):
                must_end = _PAUSE if text in _EVERYDAY else end
                if must_end.match(plain, len(text)):
                    return letter
        return None

    def _letter_at(self, line: str) -> str | None:
        match = letters.LETTER.match(line)
        letter = self.letter(match.group(1)) if match else None
        if match is None or letter is None:
            return self._single_text(line)
        rest = line[match.end() :]
        if self._is_shared(letter, rest):
            return None
        if match.group(2) or letters.DELIMITER.match(rest) or self._says(letter, rest):
            return letter
        if match.group(1) in "aA" and (other := self._text_at(rest.strip())):
            return other
        return letter if letters.GOES_ON.match(rest) else None

    def _says(self, letter: str, rest: str) -> bool:
        text = self._options[letter]
        return bool(text) and _starts_with(rest, text)

    def _is_shared(self, letter: str, rest: str) -> bool:
        """Whether a second option is named in the same breath."""
        behind, later = letters.SHARED_BEHIND.match(rest), letters.SHARED_LATER.match(rest)
        if behind and self._is_rival(behind, letter):
            ends = (letters.DELIMITER, letters.GOES_ON, letters.OR)
            may_be_word = behind["letter"] in "aAiI"
            if not may_be_word or any(end.match(rest, behind.end()) for end in ends):
                return True
        return later is not None and self._is_rival(later, letter) and self._is_listed(later)

    def _is_rival(self, second: re.Match[str], letter: str) -> bool:
        """Whether a second letter is another option's, and begins no clause of its own."""
        rival = self.letter(second["letter"])
        return rival not in (None, letter) and not letters.VERB.match(second.string, second.end())

    def _is_listed(self, second: re.Match[str]) -> bool:
        """Whether a label names an option, where "and (B) dilates" begins a clause instead."""
        rest = second.string[second.end() :]
        text = self._options[second["letter"].upper()]
        is_pause = letters.DELIMITER.match(rest) is not None
        return second["and"] == "or" or not text or is_pause or _starts_with(rest, text)

    def _place_at(self, line: str) -> str | None:
        match = _PLACE.match(line)
        if not match:
            return None
        names, place = list(self._options), match.group(1).lower()
        if place == "last":
            # Where no text is known, neither is how many options there are.
            return names[-1] if self._texts else None
        index = _PLACES.index(place)
        return names[index] if index < len(names) else None

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


def _starts_with(text: str, option: str) -> bool:
    return _plain(text).startswith(_plain(option))


def _first_line(text: str) -> str:
    """The first line with anything in it."""
    return next((line.strip() for line in text.splitlines() if re.search(r"\w", line)), "")


def _past_filler(line: str) -> str:
    match = _FILLER.match(line)
    return line[match.end() :] if match else line
