"""Numbers as people read them: minus signs, dashes, exponents and units, typeset as text.

Pure. Nothing here knows of HTML or terminals.
"""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[float, float]
NOTHING = "–"
SPACE = "\N{NO-BREAK SPACE}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimal(value: float | None, places: int = 2) -> str:
    """``−0.31``; a dash where there is no value, and no minus before a zero."""
    if value is None:
        return NOTHING
    return f"{value:z,.{places}f}".replace("-", "−")


def signed(value: float | None, places: int = 2) -> str:
    """``+0.26``, ``−0.04`` or ``0.00``."""
    text = decimal(value, places)
    return f"+{text}" if text.strip("0.,") and text[0] not in "−–" else text


def span(interval: Interval, places: int = 2) -> str:
    """``0.55 to 0.67``."""
    return f"{decimal(interval[0], places)} to {decimal(interval[1], places)}"


def share(value: float | None) -> str:
    """``83 %``."""
    return NOTHING if value is None else f"{decimal(100 * value, 0)}{SPACE}%"


def duration(seconds: float | None) -> str:
    """``12 ms``, ``4.2 s``, ``3 min 12 s`` or ``1 h 05 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f}{SPACE}ms"
    if seconds < 99.5:
        return f"{seconds:.{int(seconds < 9.95)}f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min{SPACE}{rest:02d}{SPACE}s"
    return f"{minutes // 60}{SPACE}h{SPACE}{minutes % 60:02d}{SPACE}min"


def tiny(value: float | None) -> str:
    """``4.1 × 10⁻⁶``; from a hundredth up ``0.050``."""
    if value is None or value == 0 or abs(value) >= 0.01:
        return decimal(value, 3 if value else 0)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}{SPACE}×{SPACE}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def count(number: int, noun: str) -> str:
    """``1 round``, ``3 rounds``."""
    return f"{number:,}{SPACE}{noun}{'' if number == 1 else 's'}"


def listed(clauses: Sequence[str]) -> str:
    """``one``, ``one and two`` or ``one, two and three``."""
    return " and ".join(filter(None, [", ".join(clauses[:-1]), *clauses[-1:]]))
