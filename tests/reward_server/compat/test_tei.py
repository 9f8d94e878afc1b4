from __future__ import annotations

from typing import Any

import httpx
import pytest

from reward_server.compat.base import sigmoid, softmax
from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import FakeScoring

pytestmark = pytest.mark.anyio


async def test_a_text_gets_a_list_of_labels(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/predict", json={"inputs": "abc"})
    assert response.json() == [{"score": sigmoid(1.0), "label": "LABEL_0"}]


async def test_raw_scores_are_the_rewards(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/predict", json={"inputs": "abc", "raw_scores": True})
    assert response.json() == [{"score": 1.0, "label": "LABEL_0"}]


async def test_two_texts_in_a_flat_list_are_one_pair(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/predict", json={"inputs": ["q", "aa"], "raw_scores": True})
    assert response.json() == [{"score": 1.0, "label": "LABEL_0"}]
    assert scoring.scored_raw[0].inputs == (RawInput(text="q", pair="aa"),)


async def test_one_text_in_a_flat_list_is_a_text(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/predict", json={"inputs": ["abc"]})
    assert response.json() == [{"score": sigmoid(1.0), "label": "LABEL_0"}]
    assert scoring.scored_raw[0].inputs == (RawInput(text="abc"),)


async def test_a_batch_of_texts_and_pairs_gets_a_list_of_lists(wires: httpx.AsyncClient) -> None:
    body = {"inputs": [["abc"], ["q", "aa"], ["x"]], "raw_scores": True}
    response = await wires.post("/predict", json=body)
    assert response.json() == [
        [{"score": 1.0, "label": "LABEL_0"}],
        [{"score": 1.0, "label": "LABEL_0"}],
        [{"score": 0.5, "label": "LABEL_0"}],
    ]


async def test_labels_come_with_the_highest_score_first(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/predict?model=objectives", json={"inputs": "abc"})
    shares = softmax([1.0, 0.0, -1.0])
    assert response.json() == [
        {"score": shares[0], "label": "helpfulness"},
        {"score": shares[1], "label": "correctness"},
        {"score": shares[2], "label": "verbosity"},
    ]


@pytest.mark.parametrize(
    "inputs", [["a", "b", "c"], [["a", "b", "c"]], [], [[]], [["a"], "b"], 1, None]
)
async def test_what_is_neither_text_pair_nor_batch_is_refused(
    wires: httpx.AsyncClient, inputs: Any
) -> None:
    response = await wires.post("/predict", json={"inputs": inputs})
    assert response.status_code == 422
    assert response.json()["error_type"] == "Validation"
    assert response.json()["error"].startswith("inputs")


async def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/predict", json={"inputs": "x" * 80})
    assert response.status_code == 422
    assert response.json() == {"error": "input: 81 tokens, limit 64", "error_type": "Validation"}
    body = {"inputs": "x" * 80, "truncate": True, "truncation_direction": "Right"}
    assert (await wires.post("/predict", json=body)).status_code == 200
    assert scoring.scored_raw[-1].on_overflow == "truncate"


async def test_a_model_that_reads_no_texts_is_a_backend_without_them(
    wires: httpx.AsyncClient,
) -> None:
    response = await wires.post("/predict?model=rules", json={"inputs": "abc"})
    assert response.status_code == 424
    assert response.json()["error_type"] == "Backend"


async def test_the_model_is_described(wires: httpx.AsyncClient) -> None:
    response = await wires.get("/info")
    assert response.json() == {
        "model_id": "default",
        "model_sha": "abc",
        "model_dtype": "float32",
        "served_model_name": "default",
        "model_type": {
            "reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        },
        "max_input_length": 64,
        "auto_truncate": False,
    }
    several = (await wires.get("/info?model=objectives")).json()["model_type"]
    assert list(several["classifier"]["id2label"]) == ["0", "1", "2"]
