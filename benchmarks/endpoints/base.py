"""What an evaluation asks of an endpoint, whatever wire it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reward_server.protocol import ScoreGroup


@dataclass(frozen=True, slots=True)
class Description:
    """What answers."""

    model: str
    fingerprint: str | None = None
    """``None`` where the wire does not tell."""

    kind: str | None = None
    """Kind of reward, such as ``pairwise``; ``None`` where the wire does not tell."""

    sees_rivals: bool = False
    """Whether a reward may depend on the group's other candidates and their order."""

    software: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of one group, along its candidates: each has a number or an error."""

    rewards: tuple[float | None, ...]
    errors: tuple[str | None, ...]
    """``code: detail`` where there is no reward."""

    tokens: int = 0
    """Tokens that were scored, where the wire tells."""


class Endpoint(Protocol):
    """Gives rewards to groups."""

    async def describe(self) -> Description:
        """What answers now, asked for without much patience."""
        ...

    def score(self, groups: Iterable[ScoreGroup]) -> AsyncGenerator[Rewards, None]:
        """Rewards group by group in the order given, read a bounded number of groups ahead.

        A group that the endpoint refuses has an error for each of its candidates. An endpoint that
        cannot be reached, or answers as another model than before, ends the stream with an error.
        """
        ...

    async def aclose(self) -> None:
        """Gives back connections, models and processes."""
        ...
