"""What a text says: its words, its last number.

Pure.
"""

from __future__ import annotations

import math
import re
import unicodedata


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
