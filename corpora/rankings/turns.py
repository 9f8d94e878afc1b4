"""Conversations and answers in a record, in the shapes that published files give them.

    conversation   a text, which is what the user asks, or a list of messages
    answer         a text, a message of the assistant, or a list of messages that ends with one

The messages before an answer are the conversation that it answers, wholly or in part. Errors name
record, field and fix. Nothing here knows which fields a format has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from corpora.conversation import Conversation, Message
from corpora.errors import CorpusError
from corpora.records import Record


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the messages that stand before it in its field."""

    head: tuple[Message, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """A conversation with the better and the worse of two responses."""

    conversation: Conversation
    chosen: str
    rejected: str


def refuse(record: Record, field: str, problem: str) -> NoReturn:
    """Ends the reading of a record; the problem names the fix.

    Raises:
        CorpusError: always.
    """
    raise CorpusError(f"{record.where}: {field}: {problem}")


def find_field(record: Record, *names: str) -> str | None:
    """The first of these fields that is there and not null."""
    return next((name for name in names if record.fields.get(name) is not None), None)


def read_id(record: Record, part: str, *names: str) -> str:
    """The first of these fields as text, else the record's name or place in its part.

    Raises:
        CorpusError: if the field is neither text nor a whole number.
    """
    field = find_field(record, *names)
    if field is None:
        return record.name or f"{part}:{record.number}"
    value = record.fields[field]
    if not isinstance(value, str | int) or isinstance(value, bool):
        refuse(record, field, f"expected text or a whole number, got {value!r:.60}; mend it")
    return str(value)


def read_conversation(record: Record, field: str) -> Conversation:
    """The conversation of a field.

    Raises:
        CorpusError: if the field is missing, or neither a text nor messages up to a response.
    """
    value = record.fields.get(field)
    if isinstance(value, str):
        return Conversation.ask(value)
    return _conversation(record, field, _messages(record, field, value))


def read_answer(record: Record, field: str) -> Answer:
    """The answer of a field.

    Raises:
        CorpusError: if the field is missing, or holds something that is no answer.
    """
    return to_answer(record, field, record.fields.get(field))


def to_answer(record: Record, field: str, value: object) -> Answer:
    """The answer that a value is; the field is for the error alone.

    Raises:
        CorpusError: if it is none.
    """
    if isinstance(value, str):
        return Answer((), value)
    messages = _messages(record, field, [value] if isinstance(value, Mapping) else value)
    *head, last = messages or [{}]
    text = last.get("content")
    if last.get("role") != "assistant" or not isinstance(text, str):
        refuse(record, field, "does not end with a text of the assistant; give the response there")
    return Answer(_conversation(record, field, head).messages if head else (), text)


def read_preference(
    record: Record, *, prompt: str | None, chosen: str = "chosen", rejected: str = "rejected"
) -> Preference:
    """Two answers to one conversation.

    Args:
        record: what is read.
        prompt: the field of the conversation; if there is none or it is null, the answers repeat
            the conversation.
        chosen: the field of the better answer.
        rejected: the field of the worse answer.

    Raises:
        CorpusError: if a field does not fit, or they belong to different conversations.
    """
    better, worse = read_answer(record, chosen), read_answer(record, rejected)
    if better.head != worse.head:
        refuse(record, rejected, f"answers another conversation than {chosen}; pair them anew")
    return Preference(join(record, prompt, better.head), better.text, worse.text)


def join(record: Record, prompt: str | None, head: tuple[Message, ...]) -> Conversation:
    """The conversation of a prompt and what all answers have before the response.

    The head goes on where the prompt ends, or repeats it; there may be more in it, such as a
    system message.

    Raises:
        CorpusError: if there is neither, or the head repeats something else.
    """
    if prompt is None or record.fields.get(prompt) is None:
        if not head:
            refuse(record, prompt or "prompt", "missing, and the answers repeat none; give it")
        return Conversation(head)
    asked = read_conversation(record, prompt)
    if not head:
        return asked
    if head[0].role == "assistant":
        return Conversation(asked.messages + head)
    if not _contains(head, asked.messages):
        refuse(record, prompt, "is not part of what the answers repeat; make them agree")
    return Conversation(head)


def _contains(head: tuple[Message, ...], part: tuple[Message, ...]) -> bool:
    """Whether the messages of a part follow one another there; blank ends do not count."""
    turns, wanted = ([(m.role, m.content.strip()) for m in ms] for ms in (head, part))
    return any(turns[start : start + len(wanted)] == wanted for start in range(len(turns)))


def _conversation(record: Record, field: str, messages: list[Mapping[str, object]]) -> Conversation:
    try:
        return Conversation.from_dicts(messages)
    except CorpusError as error:
        refuse(record, field, f"{error}; mend it")


def _messages(record: Record, field: str, value: object) -> list[Mapping[str, object]]:
    if isinstance(value, list) and all(isinstance(message, Mapping) for message in value):
        return value
    problem = "missing" if value is None else f"expected text or messages, got {value!r:.60}"
    refuse(record, field, f"{problem}; give a text or a list of messages")
