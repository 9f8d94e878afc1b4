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

from pydantic import ValidationError

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.rankings.turns import read_answer, read_conversation, read_preference, refuse
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
        refuse(record, field, f"{problem['msg'].removeprefix('Value error, ')}; mend it")


def _group(record: Record) -> tuple[Conversation, list[str]]:
    return read_conversation(record, "messages"), record.texts("candidates")


def _answers(field: str) -> Read:
    return lambda record: (read_conversation(record, "prompt"), record.texts(field))


def _messages(record: Record) -> tuple[Conversation, list[str]]:
    response = read_answer(record, "messages")
    if not response.head:
        refuse(record, "messages", "a response without a conversation; give what it answers")
    return Conversation(response.head), [response.text]


def _preference(record: Record) -> tuple[Conversation, list[str]]:
    preference = read_preference(record, prompt="prompt")
    return preference.conversation, [preference.chosen, preference.rejected]


FORMS: tuple[tuple[frozenset[str], Read], ...] = (
    (frozenset({"messages", "candidates"}), _group),
    (frozenset({"prompt", "candidates"}), _answers("candidates")),
    (frozenset({"prompt", "responses"}), _answers("responses")),
    (frozenset({"chosen", "rejected"}), _preference),
    (frozenset({"messages"}), _messages),
)


def _id(record: Record) -> str | None:
    value = record.fields.get("id")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(record, "id", "is neither text nor a whole number; mend it")
    return str(value)
