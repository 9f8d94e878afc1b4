"""Self-consistency: the option that most of several answers choose (Wang et al., 2203.11171).

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def vote(letters: Sequence[str | None]) -> str | None:
    """The letter that stands most often, of equals the one that stands first.

    An answer that chooses nothing has no vote; ``None`` where none has one.
    """
    counts = Counter(letter for letter in letters if letter is not None)
    return max(counts, key=lambda letter: counts[letter]) if counts else None


def agreement(letters: Sequence[str | None]) -> float | None:
    """The share of the votes that the winner has; ``None`` where there are none."""
    counts = Counter(letter for letter in letters if letter is not None)
    return max(counts.values()) / counts.total() if counts else None
