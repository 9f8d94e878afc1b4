"""Wires that carry a conversation with its response as chat messages: one candidate a request.

The server renders, so nobody else needs the model's chat template.

Sources: vLLM 0.32 ``entrypoints/pooling/*/protocol.py``; slime ``rollout/rm_hub/__init__.py``; the
page "Use Reward Models with NVIDIA NIM for LLMs" of NIM 1.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, RootModel

from benchmarks.endpoints.wires.base import (
    DEFAULT,
    Answer,
    Found,
    Item,
    Refused,
    Renders,
    Usage,
    Wire,
    as_json,
    only,
    parse,
)
from corpora.conversation import MessageDict

Messages = list[MessageDict]


def _messages(item: Item, renderer: Renders | None) -> Messages:
    return item.messages


class _Class(Answer):
    probs: list[float | None]


class _Classes(Answer):
    data: list[_Class]
    usage: Usage = Usage()


def _write_classify(chats: Sequence[Messages], model: str | None) -> bytes:
    (messages,) = chats
    return as_json(model=model, messages=messages, use_activation=False)


def _read_classify(content: bytes, count: int) -> list[Found]:
    answer = parse(_Classes, content)
    return [Found(only(each.probs), answer.usage.total_tokens) for each in answer.data]


VLLM_CLASSIFY = Wire("/classify", _messages, _write_classify, _read_classify, carries="candidate")


class _Pooled(Answer):
    data: list[float | None]


class _Pooling(Answer):
    data: list[_Pooled]
    usage: Usage = Usage()


def _write_pooling(chats: Sequence[Messages], model: str | None) -> bytes:
    (messages,) = chats
    return as_json(model=model, messages=messages, task="classify", use_activation=False)


def _read_pooling(content: bytes, count: int) -> list[Found]:
    answer = parse(_Pooling, content)
    return [Found(only(each.data), answer.usage.total_tokens) for each in answer.data]


VLLM_POOLING = Wire("/pooling", _messages, _write_pooling, _read_pooling, carries="candidate")


@dataclass(frozen=True, slots=True)
class _Sample:
    prompt: Messages
    response: str
    label: str | None


class _Reward(RootModel[float | dict[str, object] | None]):
    """A number, alone or among others."""

    model_config = ConfigDict(strict=True)


def _sample(item: Item, renderer: Renders | None) -> _Sample:
    return _Sample(item.messages[:-1], item.candidate, item.group.reference)


def _write_slime(samples: Sequence[_Sample], model: str | None) -> bytes:
    (sample,) = samples
    return as_json(prompt=sample.prompt, response=sample.response, label=sample.label)


def _read_slime(content: bytes, count: int) -> list[Found]:
    answer = parse(_Reward, content).root
    if not isinstance(answer, dict):
        return [Found(answer)]
    number = next(iter(answer.values())) if len(answer) == 1 else answer.get("score")
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Refused("malformed_answer: an object without a number called score")
    return [Found(float(number))]


SLIME = Wire("", _sample, _write_slime, _read_slime, carries="candidate", names_model="query")
"""slime asks whatever URL it is given, so there is no path to add."""


class _Message(Answer):
    content: str


class _Choice(Answer):
    message: _Message


class _Completion(Answer):
    choices: list[_Choice]
    usage: Usage = Usage()


def _write_nim(chats: Sequence[Messages], model: str | None) -> bytes:
    (messages,) = chats
    return as_json(model=model or DEFAULT, messages=messages, stream=False)


def _read_nim(content: bytes, count: int) -> list[Found]:
    answer = parse(_Completion, content)
    return [
        Found(_number(choice.message.content), answer.usage.total_tokens)
        for choice in answer.choices
    ]


def _number(text: str) -> float | None:
    """The number of ``reward:-1.25``, or of a text that is nothing else."""
    parts = [part.rpartition(":")[2] for part in text.split(",")]
    try:
        return only([float(part) for part in parts])
    except ValueError:
        raise Refused("malformed_answer: the message is not name:number") from None


NIM = Wire("/v1/chat/completions", _messages, _write_nim, _read_nim, carries="candidate")
