"""Scored groups: what an evaluation job keeps of each ranked group once it has its rewards.

Everything that is computed afterwards (sections, intervals, controls, comparisons, published file
formats) needs these lines and nothing else: no texts, no model. A candidate has a reward or an
error, never a number in place of one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.errors import ScoresError
from corpora.ranked import RankedGroup

Ties = Literal["loss", "half"]
"""What equal rewards are worth where one candidate ought to win: nothing, or one half."""


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A ranked group with the rewards of its candidates. Sequences run along the candidates."""

    number: int
    """Place in the data, counted from 0."""

    id: str
    subset: str
    digest: str
    """Of what was scored (:attr:`corpora.ranked.RankedGroup.digest`); empty where unknown."""

    ranks: tuple[int, ...]
    rewards: tuple[float | None, ...]
    errors: tuple[str | None, ...]
    """``code: detail`` where there is no reward."""

    characters: tuple[int, ...] | None = None
    """Lengths of the candidates, where they are known."""

    details: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        number: int,
        group: RankedGroup,
        rewards: Sequence[float | None],
        errors: Sequence[str | None],
    ) -> ScoredGroup:
        """The scored form of ``group``."""
        return cls(
            number=number,
            id=group.id,
            subset=group.subset,
            digest=group.digest,
            ranks=group.ranks,
            rewards=tuple(rewards),
            errors=tuple(errors),
            characters=tuple(map(len, group.candidates)),
            details=group.details,
        )

    @property
    def is_scored(self) -> bool:
        """Whether every candidate has a reward."""
        return all(reward is not None for reward in self.rewards)

    @property
    def finite_rewards(self) -> tuple[float, ...]:
        """The rewards of a group that is scored."""
        assert self.is_scored, "ask is_scored first"
        return tuple(reward for reward in self.rewards if reward is not None)

    @property
    def chosen(self) -> tuple[float, ...]:
        """Rewards of the candidates of rank 1, of a group that is scored."""
        return tuple(
            r for r, rank in zip(self.finite_rewards, self.ranks, strict=True) if rank == 1
        )

    @property
    def rejected(self) -> tuple[float, ...]:
        """Rewards of all other candidates, of a group that is scored."""
        return tuple(r for r, rank in zip(self.finite_rewards, self.ranks, strict=True) if rank > 1)

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, default=str)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], *, where: str) -> ScoredGroup:
        """The group of a parsed line.

        A reward that is not finite becomes the error ``non_finite_reward``.

        Raises:
            ScoresError: naming ``where``, the field and what is wrong with it.
        """
        ranks = _ranks(fields, where)
        rewards, errors = _rewards(fields, where)
        if len(ranks) != len(rewards) or len(errors) != len(rewards):
            raise ScoresError(
                f"{where}: rewards: {len(rewards)} for {len(ranks)} ranks and {len(errors)} errors;"
                " give one of each for every candidate"
            )
        number, details = fields.get("number", 0), fields.get("details") or {}
        if type(number) is not int:
            raise ScoresError(f"{where}: number: expected a whole number, got {number!r:.60}")
        if not isinstance(details, Mapping):
            raise ScoresError(f"{where}: details: expected an object, got {details!r:.60}")
        return cls(
            number=number,
            id=str(fields.get("id", "")),
            subset=str(fields.get("subset", "")),
            digest=str(fields.get("digest", "")),
            ranks=tuple(ranks),
            rewards=tuple(rewards),
            errors=tuple(errors),
            characters=_characters(fields, where, candidates=len(ranks)),
            details=details,
        )


def win(group: ScoredGroup, ties: Ties = "loss") -> float:
    """The share of a group's ordered pairs that the rewards put in the same order.

    For one chosen and one rejected candidate: 1 if the chosen one's reward is higher, 0 if it is
    lower; ``ties`` says what equal rewards are worth. Candidates of equal rank are not compared.

    Raises:
        ValueError: if the group is not scored, or all its ranks are equal.
    """
    rewards = group.finite_rewards
    worth = {"loss": 0.0, "half": 0.5}[ties]
    won = [
        1.0 if rewards[i] > rewards[j] else worth if rewards[i] == rewards[j] else 0.0
        for i, better in enumerate(group.ranks)
        for j, worse in enumerate(group.ranks)
        if better < worse
    ]
    if not won:
        raise ValueError(f"group {group.id!r} is a tie: there is nothing to win")
    return math.fsum(won) / len(won)


def stored_reward(value: object, field: str) -> float | None:
    """A stored value as a reward; none if it is null, not finite, or beyond any number.

    Raises:
        ScoresError: naming the field, given with its file and line, if it is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoresError(f"{field}: expected a number, got {value!r:.60}")
    try:
        reward = float(value)
    except OverflowError:
        return None
    return reward if math.isfinite(reward) else None


def _ranks(fields: Mapping[str, Any], where: str) -> list[int]:
    ranks: list[int] = _list_of(fields, "ranks", int, where=where)
    if len(ranks) < 2:
        raise ScoresError(f"{where}: ranks: {len(ranks)} of them; give two candidates or more")
    if min(ranks) != 1:
        raise ScoresError(f"{where}: ranks: the best is {min(ranks)}; count them from 1")
    return ranks


def _characters(
    fields: Mapping[str, Any], where: str, *, candidates: int
) -> tuple[int, ...] | None:
    if fields.get("characters") is None:
        return None
    characters = _list_of(fields, "characters", int, where=where)
    if len(characters) != candidates:
        raise ScoresError(
            f"{where}: characters: {len(characters)} for {candidates} ranks; give one for every"
            " candidate, or none"
        )
    return tuple(characters)


def _rewards(fields: Mapping[str, Any], where: str) -> tuple[list[float | None], list[str | None]]:
    given = fields.get("rewards")
    if not isinstance(given, list):
        raise ScoresError(f"{where}: rewards: expected a list, got {given!r:.60}")
    errors: list[str | None] = [None] * len(given)
    if fields.get("errors"):
        errors = list(_list_of(fields, "errors", str, type(None), where=where))
    rewards: list[float | None] = []
    for place, value in enumerate(given):
        rewards.append(stored_reward(value, f"{where}: rewards[{place}]"))
        if rewards[-1] is None and place < len(errors) and errors[place] is None:
            errors[place] = "non_finite_reward: the stored reward is not a finite number"
    return rewards, errors


def _list_of(fields: Mapping[str, Any], name: str, *kinds: type, where: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(type(item) in kinds for item in value):
        raise ScoresError(
            f"{where}: {name}: expected a list of {kinds[0].__name__}, got {value!r:.60}"
        )
    return value
