"""What a text answers: the option that it decides for, its words, its last number.

A text that can be taken in two ways answers nothing. What is read, and in which order of
precedence, is in ``docs/kinds-of-reward.md``. Knows nothing of rules and rewards.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

# The reading of options. A letter counts where it cannot be a word, a unit or part of a name.

_FUNCTION_WORDS = "and|as|because|but|due|for|given|instead|is|not|or|rather|since|was|with"
_ALONE = rf"(?!['’-]?\w)(?=[^\S\n]*(?:$|[^\w\s]|(?:{_FUNCTION_WORDS})\b))"
"""Follows an option's letter, but not the article in "a drug" nor the B in "B-cell"."""

_SPECIES = (
    "albicans|anthracis|baumannii|botulinum|burgdorferi|cereus|coli|diff|difficile|diphtheriae|"
    "ducreyi|faecalis|faecium|fragilis|fumigatus|henselae|histolytica|influenzae|jejuni|lamblia|"
    "neoformans|perfringens|pertussis|psittaci|pylori|tetani|trachomatis|tularensis|vaginalis"
)
_LETTER = rf"(?P<letter>[A-J])(?!\.\s?(?:{_SPECIES})\b){_ALONE}"
_OPEN = r"[\s\"'“”‘’(\[{\\]*"
_NAMED = rf"{_OPEN}(?:(?:the )?(?:correct )?(?:option|choice|answer|letter)\b:?{_OPEN})?{_LETTER}"

_NEGATION = (
    r"(?P<negation>\b(?:no|not|never|wrong|incorrect|\w+n['’]t) "
    r"(?:(?:the|an?|my|most|correct|right|best|final) ){0,3})?"
)
_STATEMENTS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # The answer to this question is most likely (B). Answer: b. <answer>B</answer>
        rf"{_NEGATION}(?<!/)\b(?:answer|ans\b\.?|choice|(?:correct|right|best|final) option)"
        r"(?: (?:to|for|in|of|here|therefore|then|thus)(?: (?!not\b)\w+){0,4}?)?"
        r" ?(?:is|was|(?:would|should|must|has to) be|[:=>–—-])"
        r"(?: (?:most likely|likely|probably|clearly|therefore|thus|then|either|both)\b)?"
        rf":?(?: not \(?[A-J]\)?,? but)?{_NAMED}",
        # Option C is therefore correct. Neither of them, so B is the best answer.
        r"(?:\b(?P<negation>or|nor|and|not|if|whether) )?"
        r"(?:\b(?:option|choice|answer) \(?"
        r"|(?:^|[.,;:!?]|\b(?:so|hence|thus|therefore|that)) ?\(?(?-i:(?=[A-J])))"
        r"(?P<letter>[A-J])\)? (?:is|would be|seems)"
        r"(?: (?:therefore|thus|clearly|the|most|single|likely)){0,3}"
        r" (?:correct|right|best|answer|most appropriate)\b",
        # I would go with B.
        r"(?P<negation>\b(?:not|never|\w+n['’]t) )?"
        rf"\b(?:choose|chose|select|pick|go with|going with|opt for)(?: the)?{_NAMED}",
    )
)
"""Sentences that say which option is the answer; ``negation`` where they say which is not."""

_LABEL = re.compile(
    rf"\W*(?:(?:option|choice|answer)\W+)?{_LETTER}"
    r"(?=\s*$|[^\w\s]| [–—-])(?!\W*(?:is )?(?:not\b|incorrect|wrong|false))",
    re.IGNORECASE,
)
"""An option's letter at the start of a line, as a label or alone."""

_RIVAL = re.compile(
    r"[\s)\]}.:\"'’”]*(?:[,/&+]|\band\b|\bor\b)[\s(\[\"'“‘]*(?:(?:option|choice) \(?)?"
    rf"(?P<rival>[A-J])(?! is\b){_ALONE}"
    r"|(?:(?!\b(?:not|than|unlike|instead|over)\b)[^.!?\n])*?\b(?:and|or) \(?(?P<other>[A-J])\)",
    re.IGNORECASE | re.MULTILINE,
)
"""A second option in the same breath: "B or C", "(A) aspirin and (B) heparin"."""

_BOLD = re.compile(r"\*\*([^*\n]+)\*\*|__([^_\n]+)__")
_BOXED = re.compile(r"\\f?box(?:ed)?\s*\{")
_TEX = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|rm|bf|boxed|fbox)\s*\{([^{}]*)\}")


def choice_of(text: str) -> str | None:
    """The option that a text decides for, as a capital letter from A to J; ``None`` if unclear.

    The first of these that names an option decides: the last TeX box; the last sentence that states
    the answer; what is set in bold; labels at the start of lines. Several options in one statement,
    or different ones in bold or as labels, are unclear.
    """
    for reader in (_boxed_choices, _stated_choices, _bold_choices, _label_choices):
        choices = set(reader(text))
        if choices:
            return choices.pop() if len(choices) == 1 else None
    return None


def _boxed_choices(text: str) -> Iterator[str]:
    boxes = list(_BOXED.finditer(text))
    if boxes:
        inside = text[boxes[-1].end() :]
        yield from _labels([_plain(inside[: _closing_brace(inside)])])


def _stated_choices(text: str) -> set[str]:
    plain = _plain(text)
    found = [match for statement in _STATEMENTS for match in statement.finditer(plain)]
    stated = [match for match in found if not match["negation"]]
    if not stated:
        return set()
    return _with_rival(plain, max(stated, key=lambda match: match.start("letter")))


def _bold_choices(text: str) -> Iterator[str]:
    return _labels([_plain(bold[1] or bold[2]) for bold in _BOLD.finditer(text)])


def _label_choices(text: str) -> Iterator[str]:
    return _labels(_plain(text).splitlines())


def _labels(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        label = _LABEL.match(line)
        if label:
            yield from _with_rival(line, label)


def _with_rival(text: str, match: re.Match[str]) -> set[str]:
    rival = _RIVAL.match(text, match.end("letter"))
    letters = [match["letter"], *(rival.groups() if rival else ())]
    return {letter.upper() for letter in letters if letter}


def _closing_brace(text: str) -> int:
    """Where the brace closes that was open before ``text``; its end if it never does."""
    depth = 1
    for index, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return index
    return len(text)


def _plain(text: str) -> str:
    """``text`` without emphasis and TeX commands, and with no run of spaces or empty lines."""
    text = _TEX.sub(r"\1", unicodedata.normalize("NFKC", text))
    text = re.sub(r"[*_`$]", "", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r" ?\n\s*", "\n", text).strip()


def words_of(text: str) -> str | None:
    """The words of a text, one space between them; ``None`` if there are none.

    Case, accents, apostrophes and punctuation do not count, but a decimal point does.
    """
    folded = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(sign for sign in folded if not unicodedata.combining(sign))
    return " ".join(_WORD.findall(re.sub("['’]", "", letters))) or None


_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")


def number_of(text: str) -> float | None:
    """The last number of a text; ``None`` if there is none or it is not finite.

    Thousands may be set off by commas or thin spaces, a percentage is divided by 100, and
    ``1.5e3``, ``1.5 × 10^3`` and ``1.5 × 10³`` are 1500.
    """
    plain = _SUPERSCRIPT.sub(lambda power: "^" + power[0].translate(_DIGITS), text)
    numbers = list(_NUMBER.finditer(plain.replace("\u2212", "-")))
    return _value(numbers[-1]) if numbers else None


_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_DIGITS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_THIN = "\u00a0\u2009\u202f"
_NUMBER = re.compile(
    # Not inside a word such as B12, nor behind the point of 1.2.3, nor an exponent such as m^2.
    r"(?<![\w^])(?<!\d\.)(?<!\^[+-])"
    rf"(?P<mantissa>[-+]?(?:(?:\d{{1,3}}(?:[,{_THIN}]\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d+)?)"
    r"(?:\s?(?:(?P<times>[x×·*]|\\times)\s?10)?\s?\^\s?[{(]?(?P<power>[-+]?\d+)[})]?)?"
    r"(?P<percent>\s?(?:\\?%|percent\b|per cent\b))?"
)


def _value(number: re.Match[str]) -> float | None:
    mantissa = re.sub(f"[,{_THIN}]", "", number["mantissa"])
    if number["power"]:
        # A power on its own can be told only if it is one of ten.
        mantissa = mantissa if number["times"] else {"10": "1", "-10": "-1"}.get(mantissa, "nan")
        mantissa += f"e{number['power']}"
    try:
        value = float(mantissa)
    except ValueError:
        return None
    value = value / 100 if number["percent"] else value
    return value if math.isfinite(value) else None
