from __future__ import annotations

from typing import Any

import httpx
import pytest

from reward_server.compat.base import sigmoid
from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import REQUEST_ID, FakeScoring

pytestmark = pytest.mark.anyio

OPENAI = {
    "query": "q",
    "documents": ["a", "bbb", "cc"],
}
TEI = {"query": "q", "texts": ["a", "bbb", "cc"]}  # ^qbbb is 5 long


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_documents_are_ranked_as_vllm_ranks_them(wires: httpx.AsyncClient, path: str) -> None:
    response = await wires.post(path, json=OPENAI | {"use_activation": False})
    assert response.json() == {
        "id": f"score-{REQUEST_ID}",
        "model": "default",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
        "results": [
            {
                "index": 1,
                "document": {"text": "bbb", "multi_modal": None},
                "relevance_score": 1.25,
            },
            {"index": 2, "document": {"text": "cc", "multi_modal": None}, "relevance_score": 1.0},
            {"index": 0, "document": {"text": "a", "multi_modal": None}, "relevance_score": 0.75},
        ],
    }


async def test_vllm_squashes_unless_told_otherwise_and_answers_with_the_best(
    wires: httpx.AsyncClient,
) -> None:
    answer = (await wires.post("/rerank", json=OPENAI | {"top_n": 1})).json()
    assert [each["relevance_score"] for each in answer["results"]] == [sigmoid(1.25)]


async def test_a_single_document_needs_no_list(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post("/rerank", json={"query": "q", "documents": "a"})).json()
    assert answer["results"][0]["document"]["text"] == "a"


async def test_equals_keep_the_order_of_the_request(wires: httpx.AsyncClient) -> None:
    documents = ["ab", "cd", "ef"]
    answer = (await wires.post("/rerank", json={"query": "q", "documents": documents})).json()
    assert [each["index"] for each in answer["results"]] == [0, 1, 2]


async def test_texts_are_ranked_as_tei_ranks_them(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    response = await wires.post("/rerank", json=TEI)
    assert response.json() == [
        {"index": 1, "score": sigmoid(1.25)},
        {"index": 2, "score": sigmoid(1.0)},
        {"index": 0, "score": sigmoid(0.75)},
    ]
    assert scoring.scored_raw[0].inputs[0] == RawInput(text="q", pair="a")


async def test_tei_gives_raw_scores_and_texts_where_asked(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/rerank", json=TEI | {"raw_scores": True, "return_text": True})
    assert response.json()[0] == {"index": 1, "text": "bbb", "score": 1.25}


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (TEI | {"texts": []}, 400, "Empty"),
        (TEI | {"texts": [1]}, 422, "Validation"),
        (TEI | {"query": None}, 422, "Validation"),
        (TEI | {"texts": ["x" * 80]}, 422, "Validation"),
        (TEI | {"texts": ["poison"]}, 424, "Backend"),
    ],
)
async def test_a_body_with_texts_is_refused_in_the_words_of_tei(
    wires: httpx.AsyncClient, body: dict[str, Any], status: int, kind: str
) -> None:
    response = await wires.post("/rerank", json=body)
    assert response.status_code == status
    assert set(response.json()) == {"error", "error_type"}
    assert response.json()["error_type"] == kind


@pytest.mark.parametrize(
    "body", [OPENAI | {"documents": []}, OPENAI | {"top_n": -1}, {"query": "q"}, [], None, "q"]
)
async def test_any_other_body_is_refused_in_the_words_of_vllm(
    wires: httpx.AsyncClient, body: object
) -> None:
    response = await wires.post("/rerank", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_not_json_is_refused_in_the_words_of_vllm(
    wires: httpx.AsyncClient, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    response = await wires.post("/rerank", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400
