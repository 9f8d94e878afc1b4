"""Conversation and candidate to token ids, by the model's own chat template.

Rendering happens here and nowhere else, so training and serving cannot disagree in silence:

- the ids are those that TRL's ``RewardTrainer`` trains on for the same messages, given a template
  that writes the BOS token itself;
- an input starts with exactly one BOS token where the tokenizer has one, and with none elsewhere;
- an input is never cut unless the caller asked for it, and a candidate is never cut at all.

Not thread-safe: a fast tokenizer serves one thread at a time. Knows nothing of models or devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from reward_server.errors import CandidateTooLong, RenderingFailed, ServerStartError
from reward_server.protocol import ChatMessage, OnOverflow, ScoreGroup


@dataclass(frozen=True, slots=True)
class Rendered:
    """One input of the model."""

    ids: list[int]
    """Token ids, the candidate's last."""

    truncated_tokens: int = 0
    """How many ids of the conversation were cut."""


class Renderer:
    """Renders groups with one tokenizer.

    Raises:
        ServerStartError: if the tokenizer has no chat template, or one that cannot render a
            question and its answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        if not tokenizer.chat_template:
            raise ServerStartError(
                f"model: the tokenizer in {tokenizer.name_or_path} has no chat template; "
                "save one beside it as chat_template.jinja"
            )
        self._tokenizer = tokenizer
        self._bos: int | None = tokenizer.bos_token_id
        self._max_length = max_length

    @property
    def template(self) -> str:
        """The source of the chat template."""
        return self._tokenizer.get_chat_template()

    def sample(self) -> list[int]:
        """Ids of a short question with its answer: how every input of this template looks.

        Raises:
            ServerStartError: if the template cannot render it.
        """
        question = ChatMessage(role="user", content="What helps a stuffy nose?")
        try:
            return self._ids([question], "Saline rinses.")
        except TemplateError as error:
            raise ServerStartError(
                f"model: the chat template cannot render a question and its answer: {error}"
            ) from None

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[Rendered]:
        """The inputs of one group, in the order of its candidates.

        Raises:
            RenderingFailed: if the template refuses the messages.
            CandidateTooLong: if an input is too long and may not, or cannot, be cut.
        """
        try:
            inputs = [self._ids(group.messages, candidate) for candidate in group.candidates]
        except TemplateError as error:
            reason = " ".join(str(error).split())
            raise RenderingFailed(f"group {group.id!r}: {reason}") from None
        return [
            Rendered(ids) if len(ids) <= self._max_length else self._cut(group, i, ids, on_overflow)
            for i, ids in enumerate(inputs)
        ]

    def _cut(
        self, group: ScoreGroup, index: int, ids: list[int], on_overflow: OnOverflow
    ) -> Rendered:
        where = f"group {group.id!r}, candidate {index}: {len(ids)} tokens, limit"
        if on_overflow == "error":
            raise CandidateTooLong(
                f"{where} {self._max_length}; shorten it or set on_overflow to 'truncate'"
            )
        excess = len(ids) - self._max_length
        start = 0 if self._bos is None else 1
        prompt = self._prompt_ids(group.messages)
        if start + excess >= common_prefix_length(ids, prompt):
            raise CandidateTooLong(
                f"{where} {self._max_length}, and no conversation would be left; shorten it"
            )
        return Rendered(ids[:start] + ids[start + excess :], truncated_tokens=excess)

    def _ids(self, messages: Sequence[ChatMessage], candidate: str) -> list[int]:
        answer = {"role": "assistant", "content": candidate}
        return self._tokenize([*_plain(messages), answer], add_generation_prompt=False)

    def _prompt_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        return self._tokenize(_plain(messages), add_generation_prompt=True)

    def _tokenize(
        self, messages: list[dict[str, str]], *, add_generation_prompt: bool
    ) -> list[int]:
        encoding: Any = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=True
        )
        return with_one_bos(encoding["input_ids"], self._bos)


def with_one_bos(ids: Sequence[int], bos: int | None) -> list[int]:
    """``ids`` behind exactly one ``bos``, whatever run of them it started with."""
    if bos is None:
        return list(ids)
    return [bos, *dropwhile(lambda token: token == bos, ids)]


def common_prefix_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading ids two inputs share."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


def _plain(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
