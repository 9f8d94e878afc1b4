"""Several reward models as one: the mean, the minimum, or the mean less a penalty for disagreement.

Members are asked side by side, each for the whole request. A candidate has a reward only if every
member gave it one. The members belong to somebody else: they are neither started nor closed here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from reward_server.errors import ServerStartError
from reward_server.fingerprint import fingerprint
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Call, Scored, Scorer
from reward_server.scorers.open import OpenScorer
from reward_server.specs import EnsembleSpec


class EnsembleScorer(OpenScorer):
    """Combines the rewards of its members.

    Args:
        name: what the ensemble is called.
        spec: its members and how they are combined.
        members: scorers by name, at least those of ``spec``.

    Raises:
        ServerStartError: if a member is not there or named twice, or a scale is for none.
    """

    def __init__(self, name: str, spec: EnsembleSpec, members: Mapping[str, Scorer]) -> None:
        check_names(spec, members)
        self._members = {member: members[member] for member in spec.members}
        self._spec = spec
        super().__init__(describe(name, spec, self._members))

    @property
    def is_ready(self) -> bool:
        return super().is_ready and all(member.is_ready for member in self._members.values())

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        """As :meth:`Scorer.score`.

        Raises:
            Draining: if no requests are taken.
            RewardServerError: what the first member raised that could not score the request.
        """
        self.check_open()
        scored = await self._ask(groups, call)
        return Scored(
            groups=combine(self._spec, {name: answer.groups for name, answer in scored.items()}),
            usage=_total([answer.usage for answer in scored.values()]),
            padding_tokens=sum(answer.padding_tokens for answer in scored.values()),
        )

    async def _ask(self, groups: Sequence[ScoreGroup], call: Call) -> dict[str, Scored]:
        # Every task exists before the first await, so that aclose waits for the whole request.
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = {
                    name: tasks.create_task(member.score(groups, call))
                    for name, member in self._members.items()
                }
                for task in asked.values():
                    self.wait_for(task)
        except BaseExceptionGroup as failed:
            # The first failure cancelled the others: it is the one that tells what went wrong.
            raise failed.exceptions[0] from None
        return {name: task.result() for name, task in asked.items()}


def combine(
    spec: EnsembleSpec, answers: Mapping[str, Sequence[GroupResult]]
) -> tuple[GroupResult, ...]:
    """The results of the ensemble from those of its members, by name, for the same groups."""
    return tuple(
        GroupResult(
            id=groups[0].id,
            results=tuple(
                combine_candidate(spec, dict(zip(answers, results, strict=True)))
                for results in zip(*(group.results for group in groups), strict=True)
            ),
        )
        for groups in zip(*answers.values(), strict=True)
    )


def combine_candidate(
    spec: EnsembleSpec, members: Mapping[str, CandidateResult]
) -> CandidateResult:
    """The result of one candidate from those of all members, by name.

    ``tokens`` and ``truncated_tokens`` are sums over the members, ``parts`` their rewards as they
    came, and ``disagreement`` is the population standard deviation of the scaled rewards.
    """
    tokens = sum(member.tokens for member in members.values())
    truncated = sum(member.truncated_tokens for member in members.values())

    def failed(error: ItemError) -> CandidateResult:
        return CandidateResult(reward=None, tokens=tokens, truncated_tokens=truncated, error=error)

    errors = {name: member.error for name, member in members.items() if member.error}
    if errors:
        detail = "; ".join(f"member {name!r}: {e.code}: {e.detail}" for name, e in errors.items())
        return failed(ItemError(code="member_failed", detail=detail))
    parts = {name: member.reward for name, member in members.items() if member.reward is not None}
    scaled = [reward / spec.scales.get(name, 1.0) for name, reward in parts.items()]
    reward, deviation = _combined(spec, scaled)
    if not (math.isfinite(reward) and math.isfinite(deviation)):
        detail = f"{spec.combine} of the members gives {reward}"
        return failed(ItemError(code="non_finite_reward", detail=detail))
    return CandidateResult(
        reward=reward,
        tokens=tokens,
        truncated_tokens=truncated,
        parts=parts,
        disagreement=deviation,
    )


def _combined(spec: EnsembleSpec, rewards: Sequence[float]) -> tuple[float, float]:
    """The combined reward and the standard deviation; not finite where a sum overflows."""
    if not math.isfinite(sum(rewards)):
        return math.nan, math.nan
    mean = math.fsum(rewards) / len(rewards)
    deviation = math.dist(rewards, [mean] * len(rewards)) / math.sqrt(len(rewards))
    match spec.combine:
        case "mean":
            return mean, deviation
        case "min":
            return min(rewards), deviation
        case "mean_minus_std":
            return mean - spec.penalty * deviation, deviation


def check_names(spec: EnsembleSpec, members: Mapping[str, Scorer]) -> None:
    """Refuses an ensemble whose names do not fit together.

    Raises:
        ServerStartError: naming the setting, the name and the fix.
    """
    for name in spec.members:
        if name not in members:
            raise ServerStartError(f"members: {name!r} is not served; add it or leave it out")
        if spec.members.count(name) > 1:
            raise ServerStartError(f"members: {name!r} is named more than once; name it once")
    for name in spec.scales:
        if name not in spec.members:
            raise ServerStartError(f"scales: {name!r} is not a member; leave it out")


def describe(name: str, spec: EnsembleSpec, members: Mapping[str, Scorer]) -> ModelInfo:
    """The ensemble as a reward model. The order of its members does not count."""
    parameters: dict[str, str | float | int | bool] = {"combine": spec.combine}
    if spec.combine == "mean_minus_std":
        parameters["penalty"] = spec.penalty
    for member in sorted(members):
        parameters[f"scales.{member}"] = spec.scales.get(member, 1.0)
    infos = {member: members[member].info for member in sorted(members)}
    identity = Identity(
        kind="ensemble",
        members={member: info.fingerprint for member, info in infos.items()},
        parameters=parameters,
    )
    limits = [info.max_length for info in infos.values() if info.max_length is not None]
    return ModelInfo(
        name=name,
        fingerprint=fingerprint(identity),
        identity=identity,
        max_length=min(limits, default=None),
        is_deterministic=all(info.is_deterministic for info in infos.values()),
    )


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(
        tokens=sum(usage.tokens for usage in usages),
        computed_tokens=sum(usage.computed_tokens for usage in usages),
        cached_candidates=sum(usage.cached_candidates for usage in usages),
    )
