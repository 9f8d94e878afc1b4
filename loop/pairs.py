"""Pair rules: from scored groups to preference pairs. Pure.

Identical candidates are folded first and truncated ones leave, so both are counted as candidates.
Of what is left a group gives up to ``per_group`` pairs, nested from the outside in: best against
worst, second best against second worst. A group that gives no pair is counted once, by its reason:
``error`` (some score failed), ``tie`` (nothing to prefer) or ``margin`` (too small a difference).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from corpora.preference import Lineage, Pair
from corpora.world import Question
from foundation.settings import Settings
from loop.groups import ScoredCandidate, ScoredGroup


class PairRule(StrEnum):
    """How the rejected candidates are chosen; the chosen are always the best."""

    BEST_WORST = "best_worst"
    """The lowest rewards (UltraMedical, RLHF Workflow)."""
    BEST_QUANTILE = "best_quantile"
    """The reward at ``rejected_quantile`` and upwards: with many candidates the very worst makes
    the pair too easy (arXiv 2502.16825)."""


class DropReason(StrEnum):
    """Why something gave no pair."""

    TIE = "tie"
    MARGIN = "margin"
    DUPLICATE = "duplicate"
    TRUNCATED = "truncated"
    ERROR = "error"


class PairConfig(Settings):
    """How pairs are built."""

    rule: PairRule = PairRule.BEST_WORST
    """``best_worst`` or ``best_quantile``."""
    per_group: int = Field(default=1, ge=1)
    """At most this many pairs of one group."""
    min_margin: float = Field(default=0.0, ge=0)
    """Smallest difference of raw rewards; a pair always needs more than a tie."""
    rejected_quantile: float = Field(default=0.1, ge=0, lt=1)
    """For ``best_quantile``: where the rejected candidate stands among the ranked rewards."""
    min_pairs: int = Field(default=8, ge=1)
    """With fewer pairs than this a round is not trained."""


@dataclass(frozen=True, slots=True)
class BuiltPairs:
    """The pairs of a round, and what gave none."""

    pairs: tuple[Pair, ...]
    dropped: Mapping[DropReason, int]


def build_pairs(
    groups: Iterable[ScoredGroup],
    questions: Mapping[str, Question],
    config: PairConfig,
    *,
    round_number: int,
) -> BuiltPairs:
    """Builds the pairs of a round.

    Args:
        groups: scored groups, in the order in which the pairs are wanted.
        questions: by id; every group's question is in it.
        config: the rule and its limits.
        round_number: for the lineage.
    """
    dropped: Counter[DropReason] = Counter(dict.fromkeys(DropReason, 0))
    pairs: list[Pair] = []
    for group in groups:
        if group.has_error:
            dropped[DropReason.ERROR] += 1
            continue
        ranked = _rank(group, dropped)
        matches = _match(ranked, config)
        if not matches:
            dropped[_reason(ranked)] += 1
        lineage = Lineage(group.policy_version, group.fingerprint, round_number)
        conversation = questions[group.question_id].conversation
        pairs += [
            Pair(
                conversation=conversation,
                chosen=chosen.text,
                rejected=rejected.text,
                question_id=group.question_id,
                chosen_reward=chosen.reward,
                rejected_reward=rejected.reward,
                lineage=lineage,
            )
            for chosen, rejected in matches
        ]
    return BuiltPairs(tuple(pairs), dict(dropped))


def _rank(group: ScoredGroup, dropped: Counter[DropReason]) -> list[ScoredCandidate]:
    """Distinct whole candidates, best first."""
    whole = [candidate for candidate in group.candidates if not candidate.is_truncated]
    distinct = list({candidate.text.strip(): candidate for candidate in whole}.values())
    dropped[DropReason.TRUNCATED] += len(group.candidates) - len(whole)
    dropped[DropReason.DUPLICATE] += len(whole) - len(distinct)
    return sorted(distinct, key=_reward, reverse=True)


def _match(
    ranked: list[ScoredCandidate], config: PairConfig
) -> list[tuple[ScoredCandidate, ScoredCandidate]]:
    skipped = 0
    if config.rule is PairRule.BEST_QUANTILE:
        skipped = int(config.rejected_quantile * len(ranked))
    rejected = ranked[: len(ranked) - skipped][::-1]
    count = min(config.per_group, len(rejected) // 2)
    matches = zip(ranked[:count], rejected[:count], strict=True)
    return [(c, r) for c, r in matches if _is_preference(c, r, config.min_margin)]


def _is_preference(chosen: ScoredCandidate, rejected: ScoredCandidate, min_margin: float) -> bool:
    margin = _reward(chosen) - _reward(rejected)
    return margin > 0 and margin >= min_margin


def _reason(ranked: list[ScoredCandidate]) -> DropReason:
    is_tie = not ranked or _reward(ranked[0]) == _reward(ranked[-1])
    return DropReason.TIE if is_tie else DropReason.MARGIN


def _reward(candidate: ScoredCandidate) -> float:
    assert candidate.reward is not None, "a group without errors has a reward for every candidate"
    return candidate.reward
