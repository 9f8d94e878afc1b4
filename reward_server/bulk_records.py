"""Records of a file as groups to score: JSON lines or Parquet rows of one form.

The first record decides which form that is:

    group        messages, candidates
    candidates   prompt, candidates or responses
    preference   chosen, rejected; prompt, where they do not repeat the conversation
    messages     messages that end with the response

Any of them may carry ``id`` and ``reference``; other fields are left alone. One record is in memory
at a time, or one batch of rows. Knows nothing of servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from corpora.conversation import Conversation, Message
from corpora.errors import CorpusError
from corpora.records import Record
from corpora.streams import JSON_LINES, PARQUET, stream_records
from foundation.errors import UserError
from reward_server.protocol import ScoreGroup

SUFFIXES = (*JSON_LINES, *PARQUET)

COLUMNS = ("id", "reference", "messages", "prompt", "candidates", "responses", "chosen", "rejected")
"""All that is read of a record."""


class BulkError(UserError):
    """A job cannot be begun or gone on with. The message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Item:
    """A group, and the record that it was made from."""

    record: Record
    group: ScoreGroup

    @property
    def id(self) -> str | None:
        """What the record calls itself, as text."""
        return _id(self.record)


def read_items(path: Path, limit: int | None = None) -> Iterator[Item]:
    """The groups of a file, made as they are asked for.

    Raises:
        CorpusError: naming the file that cannot be read, or file, line and field of the first
            record that cannot be scored.
    """
    read = None
    for record in islice(stream_records(path, columns=COLUMNS), limit):
        read = read or find_form(record)
        yield Item(record, to_group(record, *read(record)))


Read = Callable[[Record], tuple[Conversation, list[str]]]


def find_form(record: Record) -> Read:
    """How records with the fields of this one are read.

    Raises:
        CorpusError: if they have none of the forms.
    """
    given = {name for name, value in record.fields.items() if value is not None}
    for names, read in FORMS:
        if names <= given:
            return read
    raise CorpusError(
        f"{record.where}: no form that can be scored; give messages and candidates, prompt and"
        " candidates (or responses), chosen and rejected, or messages that end with the response"
    )


def to_group(record: Record, conversation: Conversation, candidates: list[str]) -> ScoreGroup:
    """The group of a record, named by its id or line.

    Raises:
        CorpusError: naming the field that does not fit.
    """
    try:
        return ScoreGroup.model_validate(
            {
                "id": _id(record) or f"line {record.number}",
                "messages": conversation.to_dicts(),
                "candidates": candidates,
                "reference": record.optional_text("reference"),
            }
        )
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        _refuse(record, field, problem["msg"].removeprefix("Value error, "))


def _group(record: Record) -> tuple[Conversation, list[str]]:
    return _conversation(record, "messages"), _texts(record, "candidates")


def _answers(field: str) -> Read:
    return lambda record: (_conversation(record, "prompt"), _texts(record, field))


def _messages(record: Record) -> tuple[Conversation, list[str]]:
    head, response = _answered(record, "messages")
    if not head:
        _refuse(record, "messages", "a response without a conversation")
    return Conversation(head), [response]


def _preference(record: Record) -> tuple[Conversation, list[str]]:
    head, chosen = _answered(record, "chosen")
    other, rejected = _answered(record, "rejected")
    if head != other:
        _refuse(record, "rejected", "answers another conversation than chosen")
    if record.fields.get("prompt") is None:
        if not head:
            _refuse(record, "prompt", "missing, and chosen and rejected do not repeat it")
        return Conversation(head), [chosen, rejected]
    prompt = _conversation(record, "prompt").messages
    return Conversation(_behind(record, prompt, head)), [chosen, rejected]


def _behind(
    record: Record, prompt: tuple[Message, ...], head: tuple[Message, ...]
) -> tuple[Message, ...]:
    """The conversation of a prompt and what chosen and rejected have in common."""
    if not head or head[0].role == "assistant":  # they go on where the prompt ends
        return prompt + head
    if not any(head[start : start + len(prompt)] == prompt for start in range(len(head))):
        _refuse(record, "prompt", "is not part of the conversation that chosen and rejected repeat")
    return head


FORMS: tuple[tuple[frozenset[str], Read], ...] = (
    (frozenset({"messages", "candidates"}), _group),
    (frozenset({"prompt", "candidates"}), _answers("candidates")),
    (frozenset({"prompt", "responses"}), _answers("responses")),
    (frozenset({"chosen", "rejected"}), _preference),
    (frozenset({"messages"}), _messages),
)


def _conversation(record: Record, field: str) -> Conversation:
    """A conversation from a question or from messages."""
    value = record.fields.get(field)
    if isinstance(value, str) and field == "prompt":
        return Conversation.ask(value)
    return _read(record, field, _dicts(record, field))


def _answered(record: Record, field: str) -> tuple[tuple[Message, ...], str]:
    """The messages before a response, and the response."""
    value = record.fields.get(field)
    if isinstance(value, str) and field != "messages":
        return (), value
    *head, last = _dicts(record, field) or [{}]
    response = last.get("content")
    if last.get("role") != "assistant" or not isinstance(response, str):
        _refuse(record, field, "does not end with a text of the assistant")
    return (_read(record, field, head).messages if head else ()), response


def _read(record: Record, field: str, messages: list[dict[str, Any]]) -> Conversation:
    try:
        return Conversation.from_dicts(messages)
    except CorpusError as error:
        _refuse(record, field, str(error))


def _dicts(record: Record, field: str) -> list[dict[str, Any]]:
    value = record.fields.get(field)
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        _refuse(record, field, "is no list of messages" if field in record.fields else "missing")
    return value


def _texts(record: Record, field: str) -> list[str]:
    value = record.fields.get(field)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        _refuse(record, field, "is no list of texts" if field in record.fields else "missing")
    return value


def _id(record: Record) -> str | None:
    value = record.fields.get("id")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(record, "id", "is neither text nor a whole number")
    return str(value)


def _refuse(record: Record, field: str, problem: str) -> NoReturn:
    raise CorpusError(f"{record.where}: {field}: {problem}; mend the record or leave it out")
