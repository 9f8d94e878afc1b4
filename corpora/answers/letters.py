"""Letters as they stand in a text: which may name an option, and which option they rule out.

Pure patterns. Knows no options: whether there is one of that letter is for others to say.
"""

from __future__ import annotations

import re

from corpora.answers.wording import spaced

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

_SPECIES = (
    "albicans|anthracis|baumannii|botulinum|burgdorferi|cereus|coli|diff|difficile|diphtheriae|"
    "ducreyi|faecalis|faecium|fragilis|fumigatus|henselae|histolytica|influenzae|jejuni|lamblia|"
    "neoformans|perfringens|pertussis|psittaci|pylori|tetani|trachomatis|tularensis|vaginalis"
)
"""Second words of names whose first is a letter: "E. coli" is no option E."""

_NO_NAME = "".join(rf"(?<!\b{name} \w)" for name in _NAMES)
_NO_SPECIES = rf"(?!\.?\s?(?:{_SPECIES})\b)"
_AND = r"(?:and/or|and|or|&|/|\+|,\s*(?:and|or)?)"

BARE = re.compile(rf"(?<![\w'-])([A-Z])(?![\w'-])(?i:{_NO_NAME}{_NO_SPECIES})")
"""A capital letter by itself."""

LETTER = re.compile(rf"[(\[]?([A-Z]){_NO_SPECIES}(?!\w|['-]\w)([)\]]?)", re.IGNORECASE)
"""A letter here, and whether it is in brackets."""

LABEL = re.compile(
    rf"\W*(?:(?:option|choice|answer)\s+)?\(?((?-i:[A-Z])|[a-z](?=[.)])){_NO_SPECIES}\)?\s*"
    r"(?:[.):,\]](?!\w\.)|[-–—]\s|(?<=\))|$)",
    re.IGNORECASE,
)
"""A letter at the start of a line, set off from what follows."""

NAMED = re.compile(r"\(([A-Z])\)|\b[Oo]ption\s+\(?([A-Z])\b|\b[Cc]hoice\s+\(?([A-Z])\b")
"""A letter that is called an option or is in parentheses."""

SUBJECT = re.compile(
    rf"(?<![\w'-])([A-Z])(?!\w){_NO_NAME}{_NO_SPECIES}\)?\]?(?:[.):,]\s+[^\n]{{1,80}})?\s*$",
    re.IGNORECASE,
)
"""A letter at the end of a clause, or a letter and what its option says."""

SHARED_BEFORE = re.compile(rf"\b[A-Z]\)?\s*{_AND}\s*(?:(?:option|choice)\s+)?\(?$", re.IGNORECASE)
"""Another letter in the same breath before one."""

SHARED_BEHIND = re.compile(
    rf"[)\]}}\"']*\s*{_AND}\s*(?:(?:option|choice)\s+)?[(\[]?(?P<letter>[A-Z])(?![\w'-])",
    re.IGNORECASE,
)
"""Another letter in the same breath behind one."""

SHARED_LATER = re.compile(
    r"(?:(?!\b(?:not|than|unlike|instead|over|because|since|as|while|whereas|but)\b)[^.!?\n])"
    r"{1,200}?\b(?P<and>and|or)\s+(?:(?:option|choice)\s+)?\(?(?P<letter>[A-Z])\)",
    re.IGNORECASE,
)
"""Another label behind what the first one says: "(A) aspirin or (B) heparin"."""

GOES_ON = re.compile(
    r"\s+(?:according|although|and|as|at|based|because|but|by|due|for|from|given|here|if|in"
    r"|instead|is|it|not|on|over|per|rather|since|than|that|the|this|though|to|unless|when|where"
    r"|whereas|which|while|with)\b",
    re.IGNORECASE,
)
"""Words that follow neither an article nor the letter of a name such as "B cell"."""

OR = re.compile(r"\s+(?:or|and/or)\b")

DELIMITER = re.compile(r"\s*(?:[.,;:!?()\[\]}\"'–—]|$)|\s*-\s|\s+-")
"""What sets a letter off from what follows."""

VERB = re.compile(rf"(?:\)?\s*{_AND}\s*\(?[A-Z]\b){{0,9}}+\)?\s+(?:is|are|was|were)\b")
"""Makes a letter the subject of a clause of its own."""

_RULED_OUT = re.compile(
    r"\b(?:[Nn]ot|[Nn]either|nor|[Ii]f|[Uu]nless|whether|rather\s+than|instead\s+of|other\s+than|unlike|except|excluding"
    r"|ruled?\s+out|exclude|eliminate)\s+(?:the\s+)?(?:[Oo]ptions?\s+|[Cc]hoices?\s+|answers?\s+)?"
    r"\(?[A-Z]\)?(?!\w)(?:\s*(?:,\s*(?:or|and)?|or|and|nor|/)\s*\(?[A-Z]\)?(?!\w))*"
)
_DISMISSED = re.compile(
    r"(?:[Oo]ptions?\s+|[Cc]hoices?\s+)?\(?\b[A-Z]\b\)?"
    r"(?:\s*(?:,\s*(?:or|and)?|or|and|/)\s*\(?[A-Z]\b\)?){0,9}+"
    r"\s*(?:[.):]\s*[^.\n]{0,60}?)?\s*(?:is|are|can\s+be|could\s+be|would\s+be|:|-|–)\s+(?:all\s+"
    r"|both\s+|also\s+|clearly\s+)*(?:incorrect|wrong|not\b|ruled\s+out|excluded|eliminated"
    r"|unlikely|false|less\b|n't)"
)


def without_rejected(text: str) -> str:
    """The text without the options that it does not take: "not A", "rather than B", "if C"."""
    return spaced(_RULED_OUT.sub(" ", text))


def without_dismissed(text: str) -> str:
    """The text without these, nor the options that it says to be wrong: "A and B are wrong"."""
    return spaced(_DISMISSED.sub(" ", without_rejected(text)))
