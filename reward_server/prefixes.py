"""How much two inputs share. Found on token ids, since a tokenizer may merge across any seam."""

from __future__ import annotations

from collections.abc import Sequence

Ids = Sequence[int]


def common_prefix_length(left: Ids, right: Ids) -> int:
    """How many leading ids two inputs share."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # slices compare in C, so halving beats walking
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
