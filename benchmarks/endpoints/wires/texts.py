"""Wires that carry rendered texts, so that whoever asks needs the reward model's chat template.

OpenRLHF, LLaMA-Factory and NeMo-Aligner behind KServe v2 tokenize texts as they are: BOS is in the
text. text-embeddings-inference and SGLang add special tokens of their own.

Sources: OpenRLHF 0.11 ``cli/serve_rm.py``; LLaMA-Factory ``api/{app,protocol}.py``; NeMo-Aligner
``algorithms/reward_server.py`` and the KServe v2 protocol; text-embeddings-inference 1.9
``router/src/http/types.rs``; SGLang ``srt/entrypoints/openai``.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import RootModel

from benchmarks.endpoints.wires.base import (
    DEFAULT,
    Answer,
    Found,
    Item,
    NotRaw,
    Refused,
    Renders,
    Wire,
    as_json,
    by_index,
    only,
    parse,
)


def _as_it_is(item: Item, renderer: Renders | None) -> str:
    assert renderer is not None, "the wire says that it needs a tokenizer"
    return renderer.text(item.messages, gets_special_tokens=False)


def _without_special_tokens(item: Item, renderer: Renders | None) -> str:
    assert renderer is not None, "the wire says that it needs a tokenizer"
    return renderer.text(item.messages, gets_special_tokens=True)


class _Logs(Answer):
    reward_tokens: tuple[float, ...] = ()


class _OpenRLHF(Answer):
    rewards: list[float | None]
    extra_logs: _Logs = _Logs()


def _write_openrlhf(texts: Sequence[str], model: str | None) -> bytes:
    return as_json(query=texts)


def _read_openrlhf(content: bytes, count: int) -> list[Found]:
    answer = parse(_OpenRLHF, content)
    lengths = answer.extra_logs.reward_tokens
    if len(lengths) != len(answer.rewards):  # only this project's server tells them
        lengths = (0.0,) * len(answer.rewards)
    found = zip(answer.rewards, lengths, strict=True)
    return [Found(reward, int(tokens)) for reward, tokens in found]


OPENRLHF = Wire(
    "/get_reward",
    _as_it_is,
    _write_openrlhf,
    _read_openrlhf,
    names_model="query",
    needs_tokenizer=True,
)


class _LlamaFactory(Answer):
    scores: list[float | None]


def _write_llama_factory(texts: Sequence[str], model: str | None) -> bytes:
    return as_json(model=model or DEFAULT, messages=texts)


def _read_llama_factory(content: bytes, count: int) -> list[Found]:
    return [Found(score) for score in parse(_LlamaFactory, content).scores]


LLAMA_FACTORY = Wire(
    "/v1/score/evaluation",
    _as_it_is,
    _write_llama_factory,
    _read_llama_factory,
    needs_tokenizer=True,
)


class _Tensor(Answer):
    name: str
    data: list[float | None]


class _KServe(Answer):
    outputs: list[_Tensor]


def _write_kserve(texts: Sequence[str], model: str | None) -> bytes:
    sentences = {
        "name": "sentences",
        "shape": [len(texts), 1],
        "datatype": "BYTES",
        "data": list(texts),
    }
    return as_json(inputs=[sentences], outputs=[{"name": "rewards"}])


def _read_kserve(content: bytes, count: int) -> list[Found]:
    for output in parse(_KServe, content).outputs:
        if output.name == "rewards":
            return [Found(number) for number in output.data]
    raise Refused("malformed_answer: outputs: none is called rewards")


KSERVE = Wire(
    "/v2/models/{model}/infer",
    _as_it_is,
    _write_kserve,
    _read_kserve,
    names_model="path",
    needs_tokenizer=True,
)


class _Label(Answer):
    score: float | None


class _Labels(RootModel[list[list[_Label]]]):
    """Labels of each input."""


def _write_tei(texts: Sequence[str], model: str | None) -> bytes:
    # A flat list of two texts would be one pair.
    return as_json(inputs=[[text] for text in texts], raw_scores=True, truncate=False)


def _read_tei(content: bytes, count: int) -> list[Found]:
    answers = parse(_Labels, content).root
    return [Found(only([label.score for label in labels])) for labels in answers]


TEI_PREDICT = Wire(
    "/predict",
    _without_special_tokens,
    _write_tei,
    _read_tei,
    names_model="query",
    needs_tokenizer=True,
)


class _Embedding(Answer):
    index: int
    embedding: list[float | None]


class _Embeddings(Answer):
    data: list[_Embedding]


def _write_sglang(texts: Sequence[str], model: str | None) -> bytes:
    return as_json(model=model or DEFAULT, input=list(texts))


def _read_sglang(content: bytes, count: int) -> list[Found]:
    data = parse(_Embeddings, content).data
    return by_index(((each.index, Found(only(each.embedding))) for each in data), count)


SGLANG = Wire(
    "/v1/embeddings",
    _without_special_tokens,
    _write_sglang,
    _read_sglang,
    needs_tokenizer=True,
)
"""The "embedding" of a reward model is its raw reward."""


class _Class(Answer):
    index: int
    probs: list[float | None]


class _Classes(Answer):
    data: list[_Class]


def _write_sglang_classify(texts: Sequence[str], model: str | None) -> bytes:
    return as_json(model=model or DEFAULT, input=list(texts), use_activation=False)


def _read_sglang_classify(content: bytes, count: int) -> list[Found]:
    data = parse(_Classes, content).data
    # SGLang itself knows no use_activation and answers the softmax of what may be one number.
    if count > 1 and all(each.probs == [1.0] for each in data):
        raise NotRaw(
            "--wire sglang-classify: every answer is 1.0, the softmax of a single number; "
            "use --wire sglang"
        )
    return by_index(((each.index, Found(only(each.probs))) for each in data), count)


SGLANG_CLASSIFY = Wire(
    "/v1/classify",
    _without_special_tokens,
    _write_sglang_classify,
    _read_sglang_classify,
    needs_tokenizer=True,
)
