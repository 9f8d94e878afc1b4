"""Scored groups: what the loop keeps of a conversation and its candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """One response of the policy with its reward.

    Exactly one of ``reward`` and ``error`` is set: a failed score is an error, never a number.
    """

    text: str
    length_tokens: int
    finish_reason: str
    logprob: float
    """Sum over its tokens, in nats, under the policy that wrote it."""
    base_logprob: float | None = None
    """The same sum under the base policy, where it was asked for."""
    reward: float | None = None
    error: str | None = None

    @property
    def is_truncated(self) -> bool:
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A question with its candidates, who wrote them and who scored them."""

    question_id: str
    policy_version: str
    fingerprint: str | None
    candidates: tuple[ScoredCandidate, ...]
    error: str | None = None
    """Why there are no candidates, if there are none."""

    @property
    def failure(self) -> str | None:
        """The group's error, else the first one of its candidates."""
        return self.error or next((c.error for c in self.candidates if c.error is not None), None)

    @property
    def has_error(self) -> bool:
        return self.failure is not None

    @property
    def rewards(self) -> list[float]:
        """Rewards in the order of the candidates, without those that failed."""
        return [c.reward for c in self.candidates if c.reward is not None]


def sound_candidates(groups: Iterable[ScoredGroup]) -> Iterator[ScoredCandidate]:
    """Every candidate of every group without an error."""
    for group in groups:
        if not group.has_error:
            yield from group.candidates
