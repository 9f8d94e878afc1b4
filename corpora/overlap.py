"""Word overlap of an answer with a reference: token F1 and ROUGE-L.

Both are symmetric, lie in [0, 1], and ignore case and punctuation. They measure shared wording,
not truth: a correct paraphrase scores low, and a fluent answer with one wrong drug scores high.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, case folded; no stemming."""
    return _WORD.findall(text.casefold())


def token_f1(candidate: str, reference: str) -> float:
    """F1 over the bags of tokens (Rajpurkar et al. 2016); 0 if a text has no token."""
    left, right = tokens(candidate), tokens(reference)
    shared = (Counter(left) & Counter(right)).total()
    return _f1(shared, len(left), len(right))


def rouge_l(candidate: str, reference: str) -> float:
    """F1 over the longest common subsequence of tokens (ROUGE-L with β = 1, Lin 2004).

    1 exactly when the token sequences are equal; 0 if a text has no token.
    """
    left, right = tokens(candidate), tokens(reference)
    return _f1(common_subsequence(left, right), len(left), len(right))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    One row of the dynamic programme is one integer, a bit for each token of ``left``, so that a
    token of ``right`` costs a few machine words (Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited").
    """
    places: defaultdict[str, int] = defaultdict(int)
    for position, token in enumerate(left):
        places[token] |= 1 << position
    every_place = (1 << len(left)) - 1
    row = every_place
    for token in right:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & every_place
    return len(left) - row.bit_count()


def _f1(shared: int, candidate: int, reference: int) -> float:
    if not candidate or not reference:
        return 0.0
    return 2 * shared / (candidate + reference)
