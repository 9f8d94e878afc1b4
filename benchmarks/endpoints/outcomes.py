"""Rewards of a group from what this project's models say of its candidates. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.endpoints.base import Rewards
from reward_server.protocol import CandidateResult


def of_results(results: Sequence[CandidateResult]) -> Rewards:
    """The rewards of a group that was scored."""
    return Rewards(
        rewards=tuple(result.reward for result in results),
        errors=tuple(
            None if result.error is None else f"{result.error.code}: {result.error.detail}"
            for result in results
        ),
        tokens=sum(result.tokens for result in results),
    )


def refused(reason: str, *, candidates: int) -> Rewards:
    """The errors of a group that was not scored, ``reason`` for each candidate."""
    return Rewards(rewards=(None,) * candidates, errors=(reason,) * candidates)
