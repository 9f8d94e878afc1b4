"""Reward functions for TRL's trainers, answered by a reward server.

    trainer = GRPOTrainer(model, reward_funcs=RemoteReward("http://127.0.0.1:8100"), …)

``RemoteReward`` serves every trainer with custom reward functions: ``GRPOTrainer``,
``RLOOTrainer`` and ``trl.experimental.online_dpo.OnlineDPOTrainer``. ``AsyncRemoteReward`` lets
GRPO and RLOO wait for several reward functions at once; Online DPO would not await it.

Completions of one prompt become one group, so the server computes their prompt once. A prompt of
plain text is scored as one turn of the user. A completion without a reward raises: a reward is
never made up. The reward model of the first call must answer all later ones. Needs no TRL.

With ``on_item_error="none"`` such a completion gets ``None`` instead. What TRL 1.16 makes of it:

* GRPO and RLOO with this reward function alone take the completion out of its group's baseline
  and give it no advantage; they also log a warning that quotes prompt and completion.
* With several reward functions, the sum over them counts the missing one as 0.
* Online DPO counts it as a reward of 0, which may win or lose the pair: do not use it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from foundation.errors import JobError, UserError
from reward_server.client import AsyncRewardClient, ClientOptions, RewardClient
from reward_server.protocol import ChatMessage, GroupResult, ScoreGroup

Messages = str | Sequence[Mapping[str, Any]]
"""A prompt or a completion, as TRL hands it over: plain text, or messages."""

OnItemError = Literal["raise", "none"]

DEFAULTS = ClientOptions()


class UnscoredCompletion(JobError):
    """A completion has an error in place of its reward. The message names the first such one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The groups of one call, and where their rewards belong."""

    groups: tuple[ScoreGroup, ...]
    places: tuple[tuple[int, ...], ...]
    """Of each group's candidates among the completions."""


class _Remote:
    """What both reward functions have in common. Holds no connection, so it can be pickled.

    Args:
        url: where the reward server listens.
        options: of the client; ``pin`` is always on.
        name: what the trainer's logs call the reward.
        on_item_error: what to do about a completion without a reward; see the module.
        reference_column: column of the data set with the known answers, for reward models that
            check against one.
        transport: what carries requests, for tests.
    """

    def __init__(
        self,
        url: str,
        options: ClientOptions = DEFAULTS,
        *,
        name: str = "remote_reward",
        on_item_error: OnItemError = "raise",
        reference_column: str | None = None,
        transport: Any = None,
    ) -> None:
        self.__name__ = name
        self._url = url
        self._options = replace(options, pin=True)
        self._on_item_error = on_item_error
        self._reference_column = reference_column
        self._transport = transport

    def _batch(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[Messages],
        columns: Mapping[str, Any],
    ) -> Batch:
        references: Sequence[str | None] = [None] * len(prompts)
        if self._reference_column is not None:
            if self._reference_column not in columns:
                raise UserError(
                    f"reference_column: {self._reference_column!r} is no column of the data set;"
                    " correct its name"
                )
            references = columns[self._reference_column]
        return to_batch(prompts, completions, references)

    def _remember(self, fingerprint: str | None) -> None:
        self._options = replace(self._options, expected_fingerprint=fingerprint)

    def _rewards(
        self, batch: Batch, results: Sequence[GroupResult], columns: Mapping[str, Any]
    ) -> list[float | None]:
        rewards = spread(batch, results, on_item_error=self._on_item_error)
        tell = columns.get("log_metric")
        if tell is not None and self._on_item_error == "none" and rewards:
            tell(f"{self.__name__}/unscored", rewards.count(None) / len(rewards))
        return rewards


class RemoteReward(_Remote):
    """A reward function that asks a reward server."""

    def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[Messages], **columns: Any
    ) -> list[float | None]:
        """The reward of each completion, in order.

        Args:
            prompts: one for each completion, repeated as often as needed.
            completions: what the policy wrote.
            columns: what else the trainer has; the rest of the data set's columns among it.

        Raises:
            UnscoredCompletion: if one has none and ``on_item_error`` is ``raise``.
            UserError: if prompt or completion are nothing that the server can score.
            RewardServerError, RewardServerUnreachable: as :meth:`RewardClient.score`.
        """
        batch = self._batch(prompts, completions, columns)
        with RewardClient(self._url, self._options, transport=self._transport) as client:
            results = client.score(batch.groups)
            self._remember(client.pinned)
        return self._rewards(batch, results, columns)


class AsyncRemoteReward(_Remote):
    """As :class:`RemoteReward`, for trainers that await their reward functions."""

    async def __call__(
        self, prompts: Sequence[Messages], completions: Sequence[Messages], **columns: Any
    ) -> list[float | None]:
        """As :meth:`RemoteReward.__call__`."""
        batch = self._batch(prompts, completions, columns)
        async with AsyncRewardClient(self._url, self._options, transport=self._transport) as client:
            results = await client.score(batch.groups)
            self._remember(client.pinned)
        return self._rewards(batch, results, columns)


def to_batch(
    prompts: Sequence[Messages],
    completions: Sequence[Messages],
    references: Sequence[str | None],
) -> Batch:
    """Groups of the completions that have prompt and reference in common.

    Raises:
        UserError: naming the prompt or completion that cannot be scored.
    """
    texts: dict[tuple[Conversation, str | None], list[str]] = {}
    places: dict[tuple[Conversation, str | None], list[int]] = {}
    rows = zip(prompts, completions, references, strict=True)
    for place, (prompt, completion, reference) in enumerate(rows):
        key = (_conversation(place, prompt), reference)
        texts.setdefault(key, []).append(_text(place, completion))
        places.setdefault(key, []).append(place)
    groups = tuple(_group(places[key][0], *key, texts[key]) for key in texts)
    return Batch(groups, tuple(tuple(found) for found in places.values()))


def spread(
    batch: Batch, results: Sequence[GroupResult], *, on_item_error: OnItemError
) -> list[float | None]:
    """The rewards in the order of the completions.

    Raises:
        UnscoredCompletion: if one has none and ``on_item_error`` is ``raise``.
    """
    rewards: dict[int, float | None] = {}
    for places, group in zip(batch.places, results, strict=True):
        for place, result in zip(places, group.results, strict=True):
            if result.error and on_item_error == "raise":
                raise UnscoredCompletion(
                    f"completions[{place}]: no reward: {result.error.code}: {result.error.detail}"
                )
            rewards[place] = result.reward
    return [rewards[place] for place in sorted(rewards)]


def _conversation(place: int, prompt: Messages) -> Conversation:
    try:
        if isinstance(prompt, str):
            return Conversation.ask(prompt)
        return Conversation.from_dicts(prompt)
    except CorpusError as error:
        raise UserError(f"prompts[{place}]: {error}") from None


def _text(place: int, completion: Messages) -> str:
    """What the policy wrote, as text."""
    if isinstance(completion, str):
        return completion
    message = completion[0] if len(completion) == 1 else {}
    content = message.get("content")
    if message.get("role") != "assistant" or not isinstance(content, str):
        raise UserError(
            f"completions[{place}]: not one message of the assistant with text; calls of tools and"
            " images cannot be scored"
        )
    return content


def _group(
    place: int, conversation: Conversation, reference: str | None, candidates: Sequence[str]
) -> ScoreGroup:
    messages = tuple(ChatMessage(role=m.role, content=m.content) for m in conversation.messages)
    try:
        return ScoreGroup(
            id=f"prompts[{place}]",
            messages=messages,
            candidates=tuple(candidates),
            reference=reference,
        )
    except ValidationError as error:
        raise UserError(f"prompts[{place}]: {error.errors()[0]['msg']}") from None
