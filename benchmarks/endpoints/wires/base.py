"""What a foreign wire is: where it is asked, what is written and what is read. Pure.

A wire turns items into a body and an answer into one number for each of them. It sends nothing and
knows no retries. Numbers are raw; whether they are finite is looked at by whoever asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from corpora.conversation import MessageDict
from reward_server.protocol import ScoreGroup

DEFAULT = "default"
"""Model of a wire that must name one where the user has not."""

Carries = Literal["candidate", "group", "groups"]
"""What one request can hold: a candidate, candidates of one group, or of several groups."""

NamesModel = Literal["body", "path", "query", "nowhere"]
"""Where a request says which model it wants. ``query`` is this project's addition to wires whose
own servers have but one model; they ignore it."""


class Refused(Exception):
    """An input gets no reward. The message is ``code: detail``."""


class NotRaw(Exception):
    """The endpoint gives no raw rewards. The message is one line with the fix."""


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate of a group."""

    group: ScoreGroup
    place: int

    @property
    def candidate(self) -> str:
        return self.group.candidates[self.place]

    @property
    def messages(self) -> list[MessageDict]:
        """The conversation with the candidate as its last message."""
        turns = [MessageDict(role=m.role, content=m.content) for m in self.group.messages]
        return [*turns, MessageDict(role="assistant", content=self.candidate)]


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer says of one item."""

    number: float | None
    tokens: int = 0
    """Of the item, where the wire tells."""


class Renders(Protocol):
    """Gives the text that a reward model reads."""

    def text(self, messages: Sequence[MessageDict], *, gets_special_tokens: bool) -> str:
        """The text of a conversation with its response.

        Raises:
            Refused: if it cannot be rendered.
        """
        ...


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Wire(Generic[C]):
    """A foreign wire that carries items as ``C``."""

    path: str
    """Behind the server's URL, unless that has it already; ``{model}`` stands for the model."""

    prepare: Callable[[Item, Renders | None], C]
    """The form in which an item is carried; may raise :class:`Refused`."""

    write: Callable[[Sequence[C], str | None], bytes]
    """The body for some items and a model's name, if the body names one."""

    read: Callable[[bytes, int], list[Found]]
    """What an answer says of so many items, in order; may raise :class:`Refused`."""

    carries: Carries = "groups"
    names_model: NamesModel = "body"
    needs_tokenizer: bool = False
    content_type: str = "application/json"


class Answer(BaseModel):
    """Body of an answer: what it has beyond what is read here is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Usage(Answer):
    """Tokens of a request, as OpenAI's API has them."""

    total_tokens: int = 0


A = TypeVar("A", bound=BaseModel)


def parse(kind: type[A], content: bytes) -> A:
    """An answer of type ``kind``.

    Raises:
        Refused: if it is none.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise malformed(error) from None


def malformed(error: ValidationError) -> Refused:
    """The refusal of an answer that is not of its wire."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "answer"
    return Refused(f"malformed_answer: {place}: {first['msg']}")


def as_json(**fields: object) -> bytes:
    """A body; fields that are ``None`` are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given).encode()


def only(numbers: Sequence[float | None]) -> float | None:
    """The one number of an item.

    Raises:
        Refused: if there are several.
    """
    if len(numbers) > 1:
        raise Refused(
            f"several_numbers: the answer has {len(numbers)} for one input, and a reward is one; "
            "ask for a model with a single output"
        )
    return numbers[0] if numbers else None


def by_index(found: Iterable[tuple[int, Found]], count: int) -> list[Found]:
    """What answers say of items by their index, in the order of the items.

    Raises:
        Refused: if there is an index twice, or one that no item has.
    """
    placed: dict[int, Found] = {}
    for index, each in found:
        if index in placed or not 0 <= index < count:
            raise Refused(f"malformed_answer: index {index} twice, or not below {count}")
        placed[index] = each
    return [placed.get(index, Found(None)) for index in range(count)]
