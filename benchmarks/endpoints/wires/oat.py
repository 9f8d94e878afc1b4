"""oat's remote oracle, in MessagePack: prompts as what a user said, with a response each.

Its win probabilities of two candidates are squashed, so responses are asked for one by one.

Source: oat ``oracles/remote/{server,client}.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from pydantic import ValidationError

from benchmarks.endpoints.wires.base import Answer, Found, Item, Refused, Renders, Wire, malformed
from benchmarks.errors import BenchmarkError

Exchange = tuple[str, str]
"""What a user said, and the response."""


class _Feedback(Answer):
    batch_score: list[float | None]


def _said_by_a_user(item: Item, renderer: Renders | None) -> Exchange:
    first, *rest = item.group.messages
    if rest or first.role != "user":
        raise Refused(
            "unsupported_input: the wire carries a single message of a user, and the conversation "
            f"has {1 + len(rest)}, the first of role {first.role}"
        )
    return first.content, item.candidate


def _write(exchanges: Sequence[Exchange], model: str | None) -> bytes:
    prompts, responses = zip(*exchanges, strict=True)
    body = {"batch_prompt": prompts, "batch_response": responses, "batch_candidates": []}
    encoded: bytes = _msgpack().encode(body)
    return encoded


def _read(content: bytes, count: int) -> list[Found]:
    try:
        answer = _Feedback.model_validate(_msgpack().decode(content))
    except ValidationError as error:
        raise malformed(error) from None
    except (ValueError, RecursionError):
        raise Refused("malformed_answer: it cannot be read as MessagePack") from None
    return [Found(score) for score in answer.batch_score]


def _msgpack() -> ModuleType:
    try:
        from msgspec import msgpack  # noqa: PLC0415 - no other wire needs it
    except ImportError:
        raise BenchmarkError(
            "--wire oat: needs msgspec, which is not installed; `pip install msgspec`"
        ) from None
    return msgpack


OAT = Wire(
    "/get_feedback",
    _said_by_a_user,
    _write,
    _read,
    names_model="nowhere",
    content_type="application/msgpack",
)
