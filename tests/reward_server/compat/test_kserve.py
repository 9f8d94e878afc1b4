from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import FakeScoring, make_app

pytestmark = pytest.mark.anyio

PATH = "/v2/models/default/infer"
SENTENCES = {"name": "sentences", "shape": [2, 1], "datatype": "BYTES", "data": ["abcd", "ab"]}
TOKENS = {"name": "tokens", "shape": [2, 3], "datatype": "INT64", "data": [5, 6, 7, 8, 0, 0]}
LENGTHS = {"name": "sequence_lengths", "shape": [2, 1], "datatype": "INT64", "data": [3, 1]}


@pytest.fixture
async def draining(scoring: FakeScoring) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(scoring, is_ready=lambda: False))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_sentences_get_a_column_of_rewards(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    body = {"id": "7", "inputs": [SENTENCES], "outputs": [{"name": "rewards"}]}
    response = await wires.post(PATH, json=body)
    assert response.json() == {
        "model_name": "default",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "rewards", "datatype": "FP32", "shape": [2, 1], "data": [1.0, 0.5]}],
    }
    assert scoring.scored_raw[0].inputs[0] == RawInput(text="abcd", add_special_tokens=False)


async def test_an_answer_has_no_id_where_the_request_has_none(wires: httpx.AsyncClient) -> None:
    assert "id" not in (await wires.post(PATH, json={"inputs": [SENTENCES]})).json()


async def test_rows_of_tokens_are_cut_to_their_lengths(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post(PATH, json={"inputs": [TOKENS, LENGTHS]})
    assert response.json()["outputs"][0]["data"] == [0.75, 0.25]
    assert scoring.scored_raw[0].inputs == (RawInput(ids=(5, 6, 7)), RawInput(ids=(8,)))


async def test_data_may_be_nested_and_columns_flat(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    tokens = TOKENS | {"data": [[5, 6, 7], [8, 0, 0]]}
    lengths = LENGTHS | {"shape": [2]}
    assert (await wires.post(PATH, json={"inputs": [lengths, tokens]})).status_code == 200
    sentences = SENTENCES | {"data": [["abcd"], ["ab"]]}
    assert (await wires.post(PATH, json={"inputs": [sentences]})).status_code == 200
    assert scoring.scored_raw[0].inputs[1] == RawInput(ids=(8,))


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([SENTENCES | {"shape": [3, 1]}], "sentences: data does not have the shape [3, 1]"),
        ([SENTENCES | {"shape": [1, 2]}], "sentences: shape [1, 2]; make it [n, 1]"),
        ([SENTENCES | {"data": []}], "sentences: data does not have the shape [2, 1]"),
        ([SENTENCES | {"shape": [10**30, 1]}], "sentences: data does not have the shape"),
        ([TOKENS | {"data": [[5], [6, 7]]}, LENGTHS], "tokens: data does not have the shape"),
        ([TOKENS, LENGTHS | {"data": [3, 4]}], "sequence_lengths[1]: 4, limits 1 and 3"),
        ([TOKENS, LENGTHS | {"data": [0, 1]}], "sequence_lengths[0]: 0, limits 1 and 3"),
        ([TOKENS, LENGTHS | {"shape": [1], "data": [3]}], "sequence_lengths: 1 for 2 rows"),
        ([TOKENS], "inputs: give sentences alone, or tokens with sequence_lengths"),
        ([SENTENCES, TOKENS], "inputs: give sentences alone"),
        ([SENTENCES | {"name": "words"}], "inputs.0: Input should be one of 'sentences'"),
        ([SENTENCES | {"datatype": "FP32"}], "inputs.0.sentences.datatype: Input should be"),
        ([], "inputs: "),
    ],
)
async def test_inputs_that_do_not_fit_are_refused_with_the_reason(
    wires: httpx.AsyncClient, inputs: list[dict[str, Any]], reason: str
) -> None:
    response = await wires.post(PATH, json={"inputs": inputs})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert response.json()["error"].startswith(reason)


async def test_an_output_that_there_is_not_is_refused(wires: httpx.AsyncClient) -> None:
    response = await wires.post(PATH, json={"inputs": [SENTENCES], "outputs": [{"name": "values"}]})
    assert response.status_code == 400


async def test_binary_tensors_are_refused_with_the_way_to_send_json(
    wires: httpx.AsyncClient,
) -> None:
    headers = {
        "inference-header-content-length": "2",
        "content-type": "application/octet-stream",
    }
    response = await wires.post(PATH, content=b"{}\x04\x00\x00\x00abcd", headers=headers)
    assert response.status_code == 400
    assert "binary_data=False" in response.json()["error"]
    body = {"inputs": [SENTENCES | {"parameters": {"binary_data_size": 10}}]}
    response = await wires.post(PATH, json=body)
    assert response.status_code == 400
    assert "binary_data=False" in response.json()["error"]


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/x-www-form-urlencoded"}], ids=["none", "curl"]
)
async def test_json_is_read_whatever_its_type_is_called(
    wires: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    content = json.dumps({"inputs": [SENTENCES]})
    response = await wires.post(PATH, content=content, headers=headers)
    assert response.json()["outputs"][0]["data"] == [1.0, 0.5]
    response = await wires.post(PATH, content=b"{", headers=headers)
    assert response.status_code == 400
    assert response.json() == {"error": "body: is not JSON"}


async def test_an_output_that_is_wanted_in_binary_comes_as_json(wires: httpx.AsyncClient) -> None:
    outputs = [{"name": "rewards", "parameters": {"binary_data": True}}]
    response = await wires.post(PATH, json={"inputs": [SENTENCES], "outputs": outputs})
    assert response.json()["outputs"][0]["data"] == [1.0, 0.5]


async def test_a_model_of_several_objectives_gives_its_one_reward(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/v2/models/objectives/infer", json={"inputs": [SENTENCES]})
    assert response.json()["outputs"][0]["shape"] == [2, 1]


async def test_a_model_is_described(wires: httpx.AsyncClient) -> None:
    assert (await wires.get("/v2/models/default")).json() == {
        "name": "default",
        "versions": ["1"],
        "platform": "medpref",
        "inputs": [
            {"name": "sentences", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "tokens", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "sequence_lengths", "datatype": "INT64", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "rewards", "datatype": "FP32", "shape": [-1, 1]}],
    }


@pytest.mark.parametrize("path", ["", "/ready"])
async def test_a_model_that_is_not_served_is_not_found(wires: httpx.AsyncClient, path: str) -> None:
    response = await wires.get(f"/v2/models/other{path}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


async def test_health_tells_a_live_server_from_a_ready_one(
    wires: httpx.AsyncClient, draining: httpx.AsyncClient
) -> None:
    assert (await wires.get("/v2/health/ready")).json() == {"ready": True}
    assert (await wires.get("/v2/models/default/ready")).json() == {
        "name": "default",
        "ready": True,
    }
    assert (await draining.get("/v2/health/live")).json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/default/ready"):
        response = await draining.get(path)
        assert response.status_code == 503
        assert response.json() == {"error": "the server does not take requests now"}
