"""The seam between the service and whatever gives rewards. Types only: no torch, no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reward_server.protocol import GroupResult, ModelInfo, OnOverflow, ScoreGroup, Usage


@dataclass(frozen=True, slots=True)
class Scored:
    """Rewards of one request and what they took."""

    groups: tuple[GroupResult, ...]
    usage: Usage
    padding_tokens: int = 0
    """Positions that the device computed for nothing."""

    render_seconds: float = 0.0
    forward_seconds: float = 0.0


class Scorer(Protocol):
    """Gives rewards to groups. Called from one thread, never the event loop's."""

    @property
    def info(self) -> ModelInfo:
        """The model's name, fingerprint and limits; never changes."""
        ...

    def score(self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow) -> Scored:
        """Scores all candidates, results in the order of ``groups``.

        Raises:
            RewardServerError: if the request cannot be scored. Any other exception means that
                the device cannot be trusted any more.
        """
        ...
