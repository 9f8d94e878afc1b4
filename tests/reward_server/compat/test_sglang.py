from __future__ import annotations

import base64
import struct

import httpx
import pytest

from reward_server.compat.base import sigmoid
from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import REQUEST_ID, FakeScoring

pytestmark = pytest.mark.anyio

USAGE = {
    "prompt_tokens": 4,
    "total_tokens": 4,
    "completion_tokens": 0,
    "prompt_tokens_details": None,
    "reasoning_tokens": 0,
}


async def test_the_embedding_of_a_reward_model_is_its_raw_reward(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/v1/embeddings", json={"model": "default", "input": "abc"})
    assert response.json() == {
        "data": [{"embedding": [1.0], "index": 0, "object": "embedding"}],
        "model": "default",
        "object": "list",
        "usage": USAGE,
    }
    assert scoring.scored_raw[0].inputs == (RawInput(text="abc"),)


async def test_verl_finds_the_reward_where_it_looks(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post("/v1/embeddings", json={"model": "default", "input": "abc"})).json()
    assert answer["data"][-1]["embedding"][-1] == 1.0


async def test_the_client_of_openai_gets_its_base64(wires: httpx.AsyncClient) -> None:
    body = {"input": [[1, 2], [3]], "encoding_format": "base64"}
    answer = (await wires.post("/v1/embeddings", json=body)).json()
    numbers = [struct.unpack("=f", base64.b64decode(each["embedding"])) for each in answer["data"]]
    assert numbers == [(0.5,), (0.25,)]


async def test_a_class_is_squashed_as_with_vllm(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post("/v1/classify", json={"input": "abc"})).json()
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": f"classify-{REQUEST_ID}",
        "object": "list",
        "model": "default",
        "data": [{"index": 0, "label": "LABEL_0", "probs": [sigmoid(1.0)], "num_classes": 1}],
        "usage": USAGE,
    }


async def test_a_class_is_raw_without_activation(wires: httpx.AsyncClient) -> None:
    body = {"input": "abc", "use_activation": False, "model": "objectives"}
    answer = (await wires.post("/v1/classify", json=body)).json()
    assert answer["data"] == [
        {"index": 0, "label": "helpfulness", "probs": [1.0, 0.0, -1.0], "num_classes": 3}
    ]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/classify"])
async def test_refusals_are_flat_objects(wires: httpx.AsyncClient, path: str) -> None:
    response = await wires.post(path, json={"input": "abc", "model": "other"})
    assert response.status_code == 404
    assert response.json() == {
        "object": "error",
        "message": "model: 'other' is not served; this server has 'default'",
        "type": "NotFoundError",
        "param": None,
        "code": 404,
    }
    assert (await wires.post(path, json={"input": []})).json()["code"] == 400
