from __future__ import annotations

import httpx
import pytest
import torch

from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import REQUEST_ID, FakeScoring

pytestmark = pytest.mark.anyio

PATH = "/v1/score/evaluation"


async def test_the_answer_is_that_of_the_peer(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    body = {"model": "model", "messages": ["abcd", "ab"], "max_length": None}
    response = await wires.post(PATH, json=body)
    assert response.json() == {
        "id": f"scoreval-{REQUEST_ID}",
        "object": "score.evaluation",
        "model": "model",
        "scores": [1.0, 0.5],
    }
    assert scoring.scored_raw[0].model == "default"
    assert scoring.scored_raw[0].inputs[0] == RawInput(text="abcd", add_special_tokens=False)


async def test_the_answer_is_what_the_client_makes_a_tensor_of(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post(PATH, json={"model": "model", "messages": ["abcd"]})).json()
    assert torch.Tensor(answer["scores"]).shape == (1,)


async def test_a_served_model_is_taken_at_its_name(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    await wires.post(PATH, json={"model": "objectives", "messages": ["abcd"]})
    assert scoring.scored_raw[0].model == "objectives"


async def test_an_empty_list_is_a_bad_request(wires: httpx.AsyncClient) -> None:
    response = await wires.post(PATH, json={"model": "model", "messages": []})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("messages: ")


async def test_a_text_above_max_length_is_refused_and_not_cut(wires: httpx.AsyncClient) -> None:
    body = {"model": "model", "messages": ["ab", "abcd"], "max_length": 4}
    assert (await wires.post(PATH, json=body)).status_code == 200
    response = await wires.post(PATH, json=body | {"max_length": 3})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("max_length: input 1 has 4 tokens, limit 3")


async def test_chat_messages_are_not_texts(wires: httpx.AsyncClient) -> None:
    body = {"model": "model", "messages": [{"role": "user", "content": "hi"}]}
    response = await wires.post(PATH, json=body)
    assert response.status_code == 422
    assert response.json() == {"detail": "messages.0: Input should be a valid string"}
