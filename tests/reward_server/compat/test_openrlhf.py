from __future__ import annotations

import httpx
import pytest
import torch

from reward_server.scorer import RawInput, RawRequest
from tests.reward_server.compat.fake import FakeScoring

pytestmark = pytest.mark.anyio


async def test_rewards_come_under_both_names_with_lists_beside_them(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    text = "<s>user: hi</s>assistant: a</s>"
    body = {
        "query": [text, "b"],
        "prompts": ["<s>user: hi</s>", ""],
        "labels": ["gold", None],
    }
    response = await wires.post("/get_reward", json=body)
    assert response.json() == {
        "rewards": [7.75, 0.25],
        "scores": [7.75, 0.25],
        "extra_logs": {"reward_tokens": [31.0, 1.0]},
    }
    assert scoring.scored_raw == [
        RawRequest(
            inputs=(
                RawInput(text=text, add_special_tokens=False),
                RawInput(text="b", add_special_tokens=False),
            )
        )
    ]


async def test_a_request_with_nothing_but_queries_is_enough(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/get_reward", json={"query": ["abcd"]})
    assert response.json()["rewards"] == [1.0]


async def test_an_empty_query_gets_empty_lists_and_scores_nothing(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/get_reward", json={"query": [], "prompts": [], "labels": []})
    assert response.status_code == 200
    assert response.json() == {"rewards": [], "scores": [], "extra_logs": {"reward_tokens": []}}
    assert scoring.scored_raw == []


async def test_the_answer_is_what_the_client_makes_tensors_of(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post("/get_reward", json={"query": ["abcd"]})).json()
    for value in (answer["rewards"], answer["scores"], *answer["extra_logs"].values()):
        assert torch.tensor([value]).shape == (1, 1)


async def test_the_url_may_name_the_model(wires: httpx.AsyncClient, scoring: FakeScoring) -> None:
    response = await wires.post("/get_reward?model=objectives", json={"query": ["abcd"]})
    assert response.json()["rewards"] == [1.0]
    assert scoring.scored_raw[0].model == "objectives"


@pytest.mark.parametrize("query", [["a"], []])
async def test_a_model_in_the_url_that_is_not_served_is_not_replaced(
    wires: httpx.AsyncClient, query: list[str]
) -> None:
    response = await wires.post("/get_reward?model=other", json={"query": query})
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_model"


async def test_a_text_that_is_too_long_is_an_error_and_not_cut(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/get_reward", json={"query": ["x" * 65]})
    assert response.status_code == 422
    assert response.json()["code"] == "candidate_too_long"


async def test_a_query_that_is_no_list_is_refused(wires: httpx.AsyncClient) -> None:
    assert (await wires.post("/get_reward", json={"query": "abcd"})).status_code == 422
