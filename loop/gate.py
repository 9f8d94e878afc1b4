"""The gate: whether a trained policy is promoted, from held-out evidence. Pure.

Both policies answer the same held-out questions with the same seeds. A question's win is the share
of candidate pairs in which the new policy has the higher proxy reward, ties counting half. The
policy is promoted when the lower bound of the bootstrap interval of the mean win, resampled by
question, is above ``min_win_rate`` and no monitor fires. Gold has no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Literal

from pydantic import Field

from foundation.settings import Settings
from foundation.statistics import Interval, bootstrap_mean
from loop.groups import ScoredGroup
from loop.monitors import Alarm


class GateConfig(Settings):
    """What a policy must show."""

    min_win_rate: float = Field(default=0.5, ge=0, le=1)
    """The lower confidence bound of the win rate must be above this."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the two-sided interval."""
    min_questions: int = Field(default=30, ge=1)
    """With fewer comparable questions nothing is promoted."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """The mean win over questions with its interval."""

    mean: float
    interval: Interval
    questions: int


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Promoted or refused, and why, in one sentence."""

    decision: Literal["promoted", "refused"]
    reason: str


def win_rate(
    challenger: Sequence[ScoredGroup],
    champion: Sequence[ScoredGroup],
    *,
    seed: int,
    confidence: float = 0.95,
) -> WinRate | None:
    """Compares two policies on the questions that both answered without an error.

    Returns:
        ``None`` if there is no such question.
    """
    against = {group.question_id: group for group in champion if not group.has_error}
    wins = [
        _win(group, against[group.question_id])
        for group in sorted(challenger, key=lambda group: group.question_id)
        if not group.has_error and group.question_id in against
    ]
    if not wins:
        return None
    interval = bootstrap_mean(wins, seed=seed, confidence=confidence)
    return WinRate(fmean(wins), interval, len(wins))


def decide(evidence: WinRate | None, alarms: Sequence[Alarm], config: GateConfig) -> GateDecision:
    """The decision."""
    if evidence is None or evidence.questions < config.min_questions:
        count = evidence.questions if evidence else 0
        needed = config.min_questions
        return GateDecision("refused", f"{count} comparable held-out questions of {needed} needed")
    low, high = evidence.interval
    shown = f"win rate {evidence.mean:.3f} [{low:.3f}, {high:.3f}] against the current policy"
    if low <= config.min_win_rate:
        return GateDecision("refused", f"{shown} does not clear {config.min_win_rate:g}")
    if alarms:
        return GateDecision("refused", f"{shown}, but {'; '.join(map(str, alarms))}")
    return GateDecision("promoted", f"{shown} clears {config.min_win_rate:g}")


def gold_gain(
    policy: Mapping[str, float], base: Mapping[str, float], *, seed: int
) -> tuple[float, Interval] | None:
    """Mean per-question gain in gold with its paired bootstrap interval; ``None`` without gold."""
    gains = [policy[question] - base[question] for question in sorted(policy.keys() & base.keys())]
    if not gains:
        return None
    return fmean(gains), bootstrap_mean(gains, seed=seed)


def _win(challenger: ScoredGroup, champion: ScoredGroup) -> float:
    duels = product(challenger.rewards, champion.rewards)
    return fmean(1.0 if ours > theirs else 0.5 * (ours == theirs) for ours, theirs in duels)
