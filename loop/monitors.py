"""Signs of over-optimisation, read from held-out candidates. Pure.

A proxy reward that rises says nothing about these; each has a limit of its own, and one that is
passed keeps a policy from being promoted whatever its win rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import Field

from foundation.settings import Settings
from loop.groups import ScoredGroup, sound_candidates


class MonitorConfig(Settings):
    """Limits; a value above its limit raises an alarm."""

    max_length_growth: float = Field(default=0.25, ge=0)
    """Growth of the mean length against the base policy: 0.25 is a quarter longer."""
    max_truncated_growth: float = Field(default=0.10, ge=0)
    """Growth of the share of candidates that ran into the token limit, against the base policy."""
    max_repetition_growth: float = Field(default=0.10, ge=0)
    """Growth of the share of repeated four-word sequences, against the base policy."""
    max_kl_to_base: float = Field(default=60.0, gt=0)
    """KL divergence to the base policy, in nats a response."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Means over held-out candidates; ``None`` where it was not measured."""

    proxy_reward: float
    length_tokens: float
    truncated: float
    repetition: float
    kl_to_base: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A limit that was passed."""

    name: str
    value: float
    limit: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} is above {self.limit:.3g}"


def take_vitals(groups: Sequence[ScoredGroup]) -> Vitals | None:
    """Measures a policy; ``None`` if every group has an error.

    The KL divergence is the mean of log π − log π_base over the policy's own responses, an unbiased
    estimate when they are sampled at temperature 1 without top-p.
    """
    candidates = list(sound_candidates(groups))
    if not candidates:
        return None
    rewards = [c.reward for c in candidates if c.reward is not None]
    ratios = [c.logprob - c.base_logprob for c in candidates if c.base_logprob is not None]
    return Vitals(
        proxy_reward=fmean(rewards),
        length_tokens=fmean(c.length_tokens for c in candidates),
        truncated=fmean(c.is_truncated for c in candidates),
        repetition=fmean(repetition(c.text) for c in candidates),
        kl_to_base=fmean(ratios) if ratios else None,
    )


def raise_alarms(policy: Vitals, base: Vitals, config: MonitorConfig) -> list[Alarm]:
    """Every limit that the policy passes."""
    readings = [
        ("length growth", policy.length_tokens / base.length_tokens - 1, config.max_length_growth),
        ("truncated growth", policy.truncated - base.truncated, config.max_truncated_growth),
        ("repetition growth", policy.repetition - base.repetition, config.max_repetition_growth),
        ("KL to base", policy.kl_to_base or 0.0, config.max_kl_to_base),
    ]
    return [Alarm(name, value, limit) for name, value, limit in readings if value > limit]


def repetition(text: str) -> float:
    """Share of four-word sequences that stood before in the same text, in [0, 1)."""
    words = text.lower().split()
    grams = [tuple(words[start : start + 4]) for start in range(len(words) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
