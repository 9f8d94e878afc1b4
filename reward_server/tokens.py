"""What an engine is given and what it gives back. Light: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Labels = tuple[float, ...]
"""The numbers of one input; one for a reward head."""


@dataclass(frozen=True, slots=True)
class TokenInput:
    """One input of an engine."""

    ids: tuple[int, ...]
    """Token ids, the candidate's last."""

    start: int = 0
    """Index of the candidate's first token; what stands before it is the conversation."""

    truncated_tokens: int = 0
    """How many ids of the conversation were cut."""


def distinct(inputs: Sequence[TokenInput]) -> tuple[list[TokenInput], list[int]]:
    """Each input once, and for every one of ``inputs`` the place of its equal among these.

    Equal inputs that were computed twice, in two batches, could differ in the last digit: the
    candidates of a tie would win or lose by chance.
    """
    places: dict[TokenInput, int] = {}
    found = [places.setdefault(item, len(places)) for item in inputs]
    return list(places), found
