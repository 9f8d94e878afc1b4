"""What an engine is given and what it gives back. Light: no torch."""

from __future__ import annotations

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
