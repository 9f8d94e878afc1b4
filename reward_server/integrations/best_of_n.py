"""The best of several responses to one conversation.

    with RewardClient("http://127.0.0.1:8100") as client:
        choice = best_of_n(client, conversation, ["Rest and drink enough.", "Antibiotics."])

A candidate without a reward is left out and reported; it never counts as a bad one. Candidates
with equal rewards stand in the order in which they were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corpora.conversation import Conversation
from foundation.errors import JobError
from reward_server.client import AsyncRewardClient, RewardClient
from reward_server.protocol import GroupResult, ItemError, ScoreGroup

GROUP_ID = "best_of_n"


class NoCandidateScored(JobError):
    """Not one of the candidates has a reward. The message names the first one's error."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its reward."""

    index: int
    """Its place among the candidates that were given, counted from 0."""

    candidate: str
    reward: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates that have a reward, best first, and the errors of the others."""

    ranked: tuple[Ranked, ...]
    errors: Mapping[int, ItemError]
    """By the place of the candidate."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate."""

    index: int
    candidate: str
    reward: float
    rewards: tuple[float | None, ...]
    """Of all candidates, in the order given; ``None`` for one that failed."""

    margin: float | None
    """Its reward minus that of the second best; ``None`` if it is the only one with a reward."""

    errors: Mapping[int, ItemError]
    """Of the candidates that failed, by place."""


def rank(client: RewardClient, conversation: Conversation, candidates: Sequence[str]) -> Ranking:
    """Puts candidates in the order of their rewards; equal ones in the order given.

    Raises:
        NoCandidateScored: if all candidates failed.
        RewardServerError, RewardServerUnreachable: as :meth:`RewardClient.score`.
    """
    [result] = client.score([_group(conversation, candidates)])
    return to_ranking(candidates, result)


async def rank_async(
    client: AsyncRewardClient, conversation: Conversation, candidates: Sequence[str]
) -> Ranking:
    """As :func:`rank`."""
    [result] = await client.score([_group(conversation, candidates)])
    return to_ranking(candidates, result)


def best_of_n(
    client: RewardClient, conversation: Conversation, candidates: Sequence[str]
) -> Choice:
    """The candidate with the highest reward; of equal ones, the one with the lowest index.

    Raises:
        NoCandidateScored: if all candidates failed.
        RewardServerError, RewardServerUnreachable: as :meth:`RewardClient.score`.
    """
    return to_choice(rank(client, conversation, candidates))


async def best_of_n_async(
    client: AsyncRewardClient, conversation: Conversation, candidates: Sequence[str]
) -> Choice:
    """As :func:`best_of_n`."""
    return to_choice(await rank_async(client, conversation, candidates))


def to_ranking(candidates: Sequence[str], result: GroupResult) -> Ranking:
    """The order of candidates by their results.

    Raises:
        NoCandidateScored: if all of them are errors.
    """
    ranked = [
        Ranked(index, candidate, scored.reward)
        for index, (candidate, scored) in enumerate(zip(candidates, result.results, strict=True))
        if scored.reward is not None
    ]
    errors = {index: scored.error for index, scored in enumerate(result.results) if scored.error}
    if not ranked:
        raise NoCandidateScored(
            f"candidates: none of {len(candidates)} has a reward; the first: "
            f"{errors[0].code}: {errors[0].detail}"
        )
    return Ranking(tuple(sorted(ranked, key=lambda one: (-one.reward, one.index))), errors)


def to_choice(ranking: Ranking) -> Choice:
    """The first of a ranking."""
    best, *others = ranking.ranked
    rewards: dict[int, float | None] = dict.fromkeys(ranking.errors)
    rewards |= {one.index: one.reward for one in ranking.ranked}
    return Choice(
        index=best.index,
        candidate=best.candidate,
        reward=best.reward,
        rewards=tuple(rewards[index] for index in sorted(rewards)),
        margin=best.reward - others[0].reward if others else None,
        errors=ranking.errors,
    )


def _group(conversation: Conversation, candidates: Sequence[str]) -> ScoreGroup:
    return ScoreGroup.of(GROUP_ID, conversation, candidates)
