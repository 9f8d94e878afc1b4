"""Wires that carry a question and its answers as plain texts.

``/score`` and ``/rerank`` join the two as the tokenizer joins pairs, without a chat template: right
for an encoder that was trained on pairs, not for a reward model of conversations. A conversation
becomes the text that this project's server makes of it for such an encoder: a single message as it
is, several as a line each.

Sources: vLLM 0.32 ``entrypoints/pooling/scoring/protocol.py``; text-embeddings-inference 1.9
``router/src/http/types.rs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import RootModel

from benchmarks.endpoints.wires.base import (
    Answer,
    Found,
    Item,
    Renders,
    Wire,
    as_json,
    by_index,
    parse,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and one answer."""

    question: str
    answer: str


def _pair(item: Item, renderer: Renders | None) -> Pair:
    lines = [message.content for message in item.group.messages]
    if len(lines) > 1:
        lines = [f"{message.role}: {message.content}" for message in item.group.messages]
    return Pair("\n".join(lines), item.candidate)


def _answers(pairs: Sequence[Pair]) -> list[str]:
    return [pair.answer for pair in pairs]


class _Score(Answer):
    index: int
    score: float | None


class _Scores(Answer):
    data: list[_Score]


def _write_score(pairs: Sequence[Pair], model: str | None) -> bytes:
    return as_json(
        model=model,
        text_1=pairs[0].question,
        text_2=_answers(pairs),
        use_activation=False,
    )


def _read_score(content: bytes, count: int) -> list[Found]:
    data = parse(_Scores, content).data
    return by_index(((each.index, Found(each.score)) for each in data), count)


VLLM_SCORE = Wire("/score", _pair, _write_score, _read_score, carries="group")


class _Rank(Answer):
    index: int
    relevance_score: float | None


class _Ranking(Answer):
    results: list[_Rank]


def _write_vllm_rerank(pairs: Sequence[Pair], model: str | None) -> bytes:
    return as_json(
        model=model,
        query=pairs[0].question,
        documents=_answers(pairs),
        use_activation=False,
    )


def _read_vllm_rerank(content: bytes, count: int) -> list[Found]:
    results = parse(_Ranking, content).results
    return by_index(((each.index, Found(each.relevance_score)) for each in results), count)


VLLM_RERANK = Wire("/rerank", _pair, _write_vllm_rerank, _read_vllm_rerank, carries="group")


class _Ranks(RootModel[list[_Score]]):
    """The best first."""


def _write_tei_rerank(pairs: Sequence[Pair], model: str | None) -> bytes:
    return as_json(query=pairs[0].question, texts=_answers(pairs), raw_scores=True, truncate=False)


def _read_tei_rerank(content: bytes, count: int) -> list[Found]:
    ranks = parse(_Ranks, content).root
    return by_index(((each.index, Found(each.score)) for each in ranks), count)


TEI_RERANK = Wire(
    "/rerank", _pair, _write_tei_rerank, _read_tei_rerank, carries="group", names_model="query"
)
