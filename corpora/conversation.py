"""Conversations: the list of chat messages that ends where a response is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, cast, get_args

from corpora.errors import CorpusError

Role = Literal["system", "user", "assistant"]


class MessageDict(TypedDict):
    """A message on the wire and in files: the shape that TRL and every chat endpoint share."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_dict(self) -> MessageDict:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that end where a response is due: never empty, never ending with the assistant.

    Raises:
        CorpusError: if there is no message or the last one is the assistant's.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        if not self.messages:
            raise CorpusError("messages: a conversation needs at least one message")
        if self.messages[-1].role == "assistant":
            raise CorpusError("messages: a conversation ends where a response is due, not with one")

    @classmethod
    def ask(cls, question: str, *, system: str | None = None) -> Conversation:
        """A single user turn, behind a system message if one is given."""
        head = (Message("system", system),) if system else ()
        return cls((*head, Message("user", question)))

    @classmethod
    def from_dicts(cls, messages: Iterable[Mapping[str, object]]) -> Conversation:
        """Reads ``[{"role": …, "content": …}, …]``.

        Raises:
            CorpusError: naming the message and the field that does not fit.
        """
        return cls(tuple(_message(index, raw) for index, raw in enumerate(messages)))

    def to_dicts(self) -> list[MessageDict]:
        return [message.to_dict() for message in self.messages]

    @property
    def last(self) -> str:
        """The text that the response answers."""
        return self.messages[-1].content


def _message(index: int, raw: Mapping[str, object]) -> Message:
    role, content = raw.get("role"), raw.get("content")
    if role not in get_args(Role):
        allowed = ", ".join(get_args(Role))
        raise CorpusError(f"messages[{index}].role: {role!r} is not one of {allowed}")
    if not isinstance(content, str):
        raise CorpusError(f"messages[{index}].content: expected text, got {content!r}")
    return Message(cast("Role", role), content)
