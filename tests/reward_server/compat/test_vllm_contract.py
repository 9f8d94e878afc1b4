"""vLLM's own server and this one, over the same tiny model: their answers field by field.

The tests of ``test_vllm`` say what this server answers; these say that vLLM answers the same.
Where they differ on purpose, a test here shows how.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RAW: dict[str, Any] = {"use_activation": False}
QUESTION = {"role": "user", "content": "What helps a stuffy nose?"}
CHAT = [QUESTION, {"role": "assistant", "content": "Saline rinses and rest."}]
PARTS = [{"type": "text", "text": "stuffy"}, {"type": "text", "text": "nose?"}]
LONG = "steam " * 300
WORDS = ["saline", "fever", "three days"]


@pytest.fixture(scope="module")
def theirs(vllm_pooling_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=vllm_pooling_url, trust_env=False, timeout=60) as client:
        yield client


def ask(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    return client.post(path, json=body, headers={"x-request-id": "r-1"})


def same(ours: Any, theirs: Any) -> None:
    """Fails unless both are the same, numbers to a thousandth."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict)
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            if key != "created":
                same(ours[key], value)
    elif isinstance(theirs, list):
        assert isinstance(ours, list)
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            same(our, their)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-3)
    else:
        assert ours == theirs


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"model": "default", "input": "saline helps"}),
        ("/classify", {"input": "saline helps", "use_activation": True}),
        ("/classify", {"input": "saline helps", **RAW}),
        ("/classify", {"input": WORDS, **RAW}),
        ("/classify", {"input": [0, 264, 81, 84], **RAW}),
        ("/classify", {"input": [[0, 264, 81], [70, 71]], **RAW}),
        ("/classify", {"input": "saline helps", "add_special_tokens": False, **RAW}),
        ("/classify", {"input": "", **RAW}),
        ("/classify", {"messages": CHAT, **RAW}),
        ("/classify", {"messages": [{"role": "system", "content": "Be kind."}, *CHAT]}),
        ("/classify", {"messages": [{"role": "user", "content": PARTS}, CHAT[1]], **RAW}),
        ("/classify", {"messages": CHAT, "input": "saline", **RAW}),
        ("/classify", {"input": "saline", "priority": 3, "user": "somebody", "unheard": "of"}),
        ("/pooling", {"input": WORDS}),
        ("/pooling", {"input": "saline helps", "task": "classify", **RAW}),
        ("/pooling", {"messages": CHAT, **RAW}),
        ("/score", {"text_1": "stuffy nose", "text_2": "saline"}),
        ("/score", {"text_1": "stuffy nose", "text_2": WORDS, **RAW}),
        ("/score", {"text_1": WORDS, "text_2": WORDS[::-1], **RAW}),
        ("/score", {"data_1": "stuffy nose", "data_2": WORDS}),
        ("/score", {"queries": "stuffy nose", "documents": WORDS, **RAW}),
        ("/score", {"queries": "stuffy nose", "items": WORDS, **RAW}),
        ("/rerank", {"query": "stuffy nose", "documents": WORDS}),
        ("/rerank", {"query": "stuffy nose", "documents": WORDS, "top_n": 2, **RAW}),
        ("/rerank", {"query": "stuffy nose", "documents": WORDS, "top_n": 9}),
        ("/v1/rerank", {"query": "stuffy nose", "documents": "saline", **RAW}),
        ("/v2/rerank", {"query": "stuffy nose", "documents": ["saline"], **RAW}),
    ],
)
def test_answers_are_the_same(
    our_http: httpx.Client, theirs: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    their, our = ask(theirs, path, body), ask(our_http, path, body)
    assert (our.status_code, their.status_code) == (200, 200)
    same(our.json(), their.json())


@pytest.mark.parametrize(("endianness", "order"), [("native", "="), ("big", ">"), ("little", "<")])
def test_packed_answers_are_the_same(
    our_http: httpx.Client, theirs: httpx.Client, endianness: str, order: str
) -> None:
    body = {"input": WORDS, "encoding_format": "base64", "endianness": endianness, **RAW}
    for our, their in zip(
        ask(our_http, "/pooling", body).json()["data"],
        ask(theirs, "/pooling", body).json()["data"],
        strict=True,
    ):
        numbers = [base64.b64decode(each["data"]) for each in (our, their)]
        assert struct.unpack(f"{order}f", numbers[0]) == pytest.approx(
            struct.unpack(f"{order}f", numbers[1]), abs=1e-3
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"model": "other", "input": "a"}),
        ("/pooling", {"model": "other", "input": "a"}),
        ("/score", {"model": "other", "text_1": "a", "text_2": "b"}),
        ("/rerank", {"model": "other", "query": "a", "documents": ["b"]}),
        ("/classify", {"input": LONG}),
        ("/pooling", {"input": LONG}),
        ("/score", {"text_1": LONG, "text_2": "b"}),
        ("/rerank", {"query": "a", "documents": ["b", LONG]}),
        ("/classify", {"messages": [QUESTION, {"role": "assistant", "content": LONG}]}),
        ("/classify", {}),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": -1}),
        ("/rerank", {"query": "a"}),
    ],
)
def test_errors_are_of_the_same_kind(
    our_http: httpx.Client, theirs: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    their, our = ask(theirs, path, body), ask(our_http, path, body)
    assert our.status_code == their.status_code
    assert our.status_code in (400, 404)
    for field in ("type", "param", "code"):
        assert our.json()["error"][field] == their.json()["error"][field], field


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"input": []}),
        ("/classify", {"input": [[]]}),
        ("/classify", {"input": [-1]}),
        ("/classify", {"input": [5000]}),
        ("/classify", {"input": 1}),
        ("/classify", {"input": "", "add_special_tokens": False}),
        ("/classify", {"input": "a", "normalize": True}),
        ("/classify", {"input": "a", "truncate_prompt_tokens": 300}),
        ("/classify", {"input": "a", "truncate_prompt_tokens": -2}),
        ("/classify", {"messages": CHAT, "chat_template": "{{ x }}"}),
        ("/pooling", {"input": "a", "task": "token_classify"}),
        ("/pooling", {"input": "a", "task": "score"}),
        ("/pooling", {"input": "a", "dimensions": 3}),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}),
        ("/score", {"text_1": [], "text_2": ["c"]}),
        ("/score", {"text_1": "a", "text_2": []}),
        ("/score", {"text_1": "a"}),
        ("/rerank", {"query": "a", "documents": []}),
    ],
)
def test_what_the_one_refuses_the_other_refuses(
    our_http: httpx.Client, theirs: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    their, our = ask(theirs, path, body), ask(our_http, path, body)
    assert (our.status_code, their.status_code) == (400, 400)
    assert list(our.json()["error"]) == list(their.json()["error"])


def test_a_text_with_a_bos_gets_no_second_one_here(
    our_http: httpx.Client, theirs: httpx.Client
) -> None:
    body = {"input": "<|begin|>saline helps", **RAW}
    twice, once = ask(theirs, "/classify", body).json(), ask(our_http, "/classify", body).json()
    assert once["usage"]["prompt_tokens"] == twice["usage"]["prompt_tokens"] - 1
    same(once, ask(theirs, "/classify", body | {"add_special_tokens": False}).json())


def test_the_older_name_of_the_flag_is_heeded_here(
    our_http: httpx.Client, theirs: httpx.Client
) -> None:
    old, new = ({"input": "saline helps", name: False} for name in ("activation", "use_activation"))
    raw = ask(theirs, "/classify", new).json()["data"][0]["probs"]
    assert ask(theirs, "/classify", old).json()["data"][0]["probs"] != raw
    same(ask(our_http, "/classify", old).json()["data"][0]["probs"], raw)


def test_truncation_leaves_as_many_tokens_but_not_the_same(
    our_http: httpx.Client, theirs: httpx.Client
) -> None:
    body = {"input": f"{LONG} and rest", "truncate_prompt_tokens": -1, **RAW}
    their, our = ask(theirs, "/classify", body).json(), ask(our_http, "/classify", body).json()
    assert our["usage"] == their["usage"]
    # vLLM keeps the beginning, whose end is not the end of anything; here the end is kept.
    assert our["data"][0]["probs"] != pytest.approx(their["data"][0]["probs"], abs=1e-3)


def test_a_conversation_that_ends_with_the_user_is_refused_here(
    our_http: httpx.Client, theirs: httpx.Client
) -> None:
    body = {"messages": [QUESTION]}
    assert ask(theirs, "/classify", body).status_code == 200
    assert ask(our_http, "/classify", body).status_code == 400


def test_what_is_scored_here_tells_its_fingerprint(our_http: httpx.Client) -> None:
    info = our_http.get("/v1/models/default").json()
    for path, body in (
        ("/classify", {"input": "a"}),
        ("/score", {"text_1": "a", "text_2": "b"}),
        ("/rerank", {"query": "a", "documents": ["b"]}),
    ):
        answer = ask(our_http, path, body)
        assert answer.headers["x-reward-fingerprint"] == info["fingerprint"]
