"""Conversation and candidate to token ids, by the model's own chat template.

Rendering happens here and nowhere else, so training and serving cannot disagree in silence:

- the ids are those that TRL's ``RewardTrainer`` trains on for the same messages, given a template
  that writes the BOS token itself;
- an input starts with exactly one BOS token where the tokenizer has one, and with none elsewhere;
- an input is never cut unless the caller asked for it, and a candidate is never cut at all.

Inputs that a foreign wire rendered itself are only tokenized; they may start with one BOS at most.

Not thread-safe: a fast tokenizer serves one thread at a time. Knows nothing of models or devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile
from typing import Any, Protocol

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from reward_server.errors import (
    CandidateTooLong,
    InvalidRequest,
    RenderingFailed,
    ServerStartError,
)
from reward_server.prefixes import common_prefix_length
from reward_server.protocol import ChatMessage, OnOverflow, ScoreGroup
from reward_server.scorer import RawInput
from reward_server.tokens import TokenInput

_NOTHING = "neither its texts nor its form give a single token; send some text"


class Renderer(Protocol):
    """Turns groups and raw inputs into what an engine reads."""

    @property
    def template(self) -> str:
        """What decides how a conversation is written; part of the fingerprint."""
        ...

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[TokenInput]:
        """The inputs of one group, in the order of its candidates.

        Raises:
            RenderingFailed: if the conversation cannot be written in this form.
            CandidateTooLong: if an input is too long and may not, or cannot, be cut.
        """
        ...

    def render_prompt(self, messages: Sequence[ChatMessage]) -> TokenInput:
        """Messages that the model is about to answer.

        Raises:
            RenderingFailed: if the conversation cannot be written in this form.
            CandidateTooLong: if they are too long.
        """
        ...

    def render_raw(
        self, inputs: Sequence[RawInput], *, on_overflow: OnOverflow
    ) -> list[TokenInput]:
        """Tokenizes inputs that are written already.

        Raises:
            InvalidRequest: if one has no tokens, or token ids that the model does not know.
            CandidateTooLong: if one is too long and may not be cut.
        """
        ...


class _Tokenizing:
    """What both renderers share: raw inputs, and the limit of an input's length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._bos: int | None = tokenizer.bos_token_id
        self._first = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
        self._max_length = max_length

    def render_raw(
        self, inputs: Sequence[RawInput], *, on_overflow: OnOverflow
    ) -> list[TokenInput]:
        rendered = [self._raw(number, each) for number, each in enumerate(inputs)]
        return [
            item
            if len(item.ids) <= self._max_length
            else self._keep_tail(number, item, on_overflow)
            for number, item in enumerate(rendered)
        ]

    def _raw(self, number: int, given: RawInput) -> TokenInput:
        if given.ids is not None:
            known = len(self._tokenizer)
            if any(not 0 <= token < known for token in given.ids):
                raise InvalidRequest(f"input {number}: a token id is not below {known}")
            ids, start = list(given.ids), 0
        else:
            # In lists, since a tokenizer takes a lone empty second text for none.
            seconds = None if given.pair is None else [given.pair]
            encoding: Any = self._tokenizer(
                [given.text], seconds, add_special_tokens=given.add_special_tokens
            )
            ids, start = at_most_one_bos(encoding["input_ids"][0], self._bos), 0
            if given.pair is not None:
                start = first_of_pair(encoding)
        if not ids:
            raise InvalidRequest(f"input {number}: it has no tokens; send some text")
        return TokenInput(tuple(ids), start)

    def _keep_tail(self, number: int, item: TokenInput, on_overflow: OnOverflow) -> TokenInput:
        if on_overflow == "error":
            raise self._too_long(f"input {number}", len(item.ids))
        head = 1 if item.ids[0] in self._first else 0
        excess = len(item.ids) - self._max_length
        ids = item.ids[:head] + item.ids[head + excess :]
        start = max(item.start - excess, head) if item.start else 0
        return TokenInput(ids, start, truncated_tokens=excess)

    def _too_long(self, where: str, tokens: int) -> CandidateTooLong:
        return CandidateTooLong(
            f"{where}: {tokens} tokens, limit {self._max_length}; shorten it or allow truncation "
            "(on_overflow: truncate)"
        )

    def _not_enough_room(self, where: str, tokens: int) -> CandidateTooLong:
        return CandidateTooLong(
            f"{where}: {tokens} tokens, limit {self._max_length}, and no conversation would be "
            "left; shorten it"
        )


class ChatRenderer(_Tokenizing):
    """Renders groups with the tokenizer's chat template.

    Args:
        tokenizer: of the model.
        max_length: longest input in tokens.
        marks_candidates: whether inputs say where their candidate starts, which takes a second
            look at the conversation.

    Raises:
        ServerStartError: if the tokenizer has no chat template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        marks_candidates: bool = False,
    ) -> None:
        super().__init__(tokenizer, max_length=max_length)
        if not tokenizer.chat_template:
            raise ServerStartError(
                f"model: the tokenizer in {tokenizer.name_or_path} has no chat template; "
                "save one beside it as chat_template.jinja"
            )
        self._marks_candidates = marks_candidates

    @property
    def template(self) -> str:
        return self._tokenizer.get_chat_template()

    def sample(self) -> list[int]:
        """Ids of a short question with its answer: how every input of this template looks.

        Raises:
            ServerStartError: if the template cannot render it.
        """
        question = ChatMessage(role="user", content="What helps a stuffy nose?")
        try:
            return self._ids([question], ["Saline rinses."])[0]
        except TemplateError as error:
            raise ServerStartError(
                f"model: the chat template cannot render a question and its answer: {error}"
            ) from None

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[TokenInput]:
        try:
            inputs = self._ids(group.messages, group.candidates)
            prompt = self._prompt_ids(group.messages) if self._needs_prompt(inputs) else None
        except TemplateError as error:
            reason = " ".join(str(error).split())
            raise RenderingFailed(f"group {group.id!r}: {reason}") from None
        return [
            self._finish(f"group {group.id!r}, candidate {number}", ids, prompt, on_overflow)
            for number, ids in enumerate(inputs)
        ]

    def render_prompt(self, messages: Sequence[ChatMessage]) -> TokenInput:
        try:
            ids = self._prompt_ids(messages)
        except TemplateError as error:
            raise RenderingFailed(" ".join(str(error).split())) from None
        if not ids:
            raise RenderingFailed(_NOTHING)
        if len(ids) > self._max_length:
            raise CandidateTooLong(f"{len(ids)} tokens, limit {self._max_length}; shorten it")
        return TokenInput(tuple(ids))

    def _needs_prompt(self, inputs: Sequence[Sequence[int]]) -> bool:
        return self._marks_candidates or max(map(len, inputs)) > self._max_length

    def _finish(
        self, where: str, ids: list[int], prompt: list[int] | None, on_overflow: OnOverflow
    ) -> TokenInput:
        if not ids:
            raise RenderingFailed(f"{where}: {_NOTHING}")
        start = 0 if prompt is None else common_prefix_length(ids, prompt)
        if len(ids) <= self._max_length:
            return TokenInput(tuple(ids), start)
        if on_overflow == "error":
            raise self._too_long(where, len(ids))
        excess = len(ids) - self._max_length
        head = 0 if self._bos is None else 1
        if head + excess >= start:
            raise self._not_enough_room(where, len(ids))
        kept = ids[:head] + ids[head + excess :]
        return TokenInput(tuple(kept), start - excess, truncated_tokens=excess)

    def _ids(self, messages: Sequence[ChatMessage], candidates: Sequence[str]) -> list[list[int]]:
        turns = _plain(messages)
        return self._tokenize(
            [[*turns, {"role": "assistant", "content": candidate}] for candidate in candidates],
            add_generation_prompt=False,
        )

    def _prompt_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        return self._tokenize([_plain(messages)], add_generation_prompt=True)[0]

    def _tokenize(
        self, conversations: list[list[dict[str, str]]], *, add_generation_prompt: bool
    ) -> list[list[int]]:
        encoding: Any = self._tokenizer.apply_chat_template(
            conversations,
            add_generation_prompt=add_generation_prompt,
            tokenize=True,
            return_dict=True,
        )
        return [with_one_bos(ids, self._bos) for ids in encoding["input_ids"]]


class PairRenderer(_Tokenizing):
    """Renders groups as a pair of texts, for encoders: the conversation, then the candidate.

    A conversation of one message is its text; a longer one has a line a turn, ``role: content``.
    """

    @property
    def template(self) -> str:
        return "pair"

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[TokenInput]:
        lines = [message.content for message in group.messages]
        if len(lines) > 1:
            lines = [f"{message.role}: {message.content}" for message in group.messages]
        text = "\n".join(lines)
        encoding: Any = self._tokenizer([text] * len(group.candidates), list(group.candidates))
        return [
            self._finish(f"group {group.id!r}, candidate {number}", encoding, number, on_overflow)
            for number in range(len(group.candidates))
        ]

    def render_prompt(self, messages: Sequence[ChatMessage]) -> TokenInput:
        raise RenderingFailed("an encoder answers no prompts")

    def _finish(
        self, where: str, encoding: Any, number: int, on_overflow: OnOverflow
    ) -> TokenInput:
        ids: list[int] = encoding["input_ids"][number]
        owners: list[int | None] = encoding.sequence_ids(number)
        if not ids:
            raise RenderingFailed(f"{where}: {_NOTHING}")
        start = first_of_pair(encoding, number) or len(ids)
        excess = len(ids) - self._max_length
        if excess <= 0:
            return TokenInput(tuple(ids), start)
        if on_overflow == "error":
            raise self._too_long(where, len(ids))
        if excess >= owners.count(0):
            raise self._not_enough_room(where, len(ids))
        head = owners.index(0)
        kept = ids[:head] + ids[head + excess :]
        return TokenInput(tuple(kept), start - excess, truncated_tokens=excess)


def first_of_pair(encoding: Any, number: int = 0) -> int:
    """Index of the second text's first token, as the tokenizer's own token types have it.

    An empty text may still have an end mark of its own; 0 if it has not even that.
    """
    types, owners = encoding[number].type_ids, encoding.sequence_ids(number)
    second = types if 1 in types else owners
    return second.index(1) if 1 in second else 0


def with_one_bos(ids: Sequence[int], bos: int | None) -> list[int]:
    """``ids`` behind exactly one ``bos``, whatever run of them it started with."""
    if bos is None:
        return list(ids)
    return [bos, *dropwhile(lambda token: token == bos, ids)]


def at_most_one_bos(ids: Sequence[int], bos: int | None) -> list[int]:
    """``ids`` with a leading run of ``bos`` cut down to one; none is added."""
    return with_one_bos(ids, bos) if ids and ids[0] == bos else list(ids)


def _plain(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
