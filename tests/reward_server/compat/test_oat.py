from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from reward_server.compat.base import sigmoid
from reward_server.protocol import ChatMessage
from tests.reward_server.compat.fake import FakeScoring

pytestmark = pytest.mark.anyio


async def ask(wires: httpx.AsyncClient, body: object) -> httpx.Response:
    return await wires.post("/get_feedback", content=msgspec.msgpack.encode(body))


def read(response: httpx.Response) -> Any:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/msgpack"
    return msgspec.msgpack.decode(response.content)


async def test_candidates_get_the_probability_that_the_first_is_better(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    # As the peer's client builds it: pairs are tuples, the other list is empty.
    body = {
        "batch_prompt": ["q", "q"],
        "batch_response": [],
        "batch_candidates": [("aaaa", ""), ("b", "b")],
    }
    assert read(await ask(wires, body)) == {
        "batch_score": [],
        "batch_first_win_prob": [sigmoid(1.0), 0.5],
    }
    first = scoring.scored[0].groups[0]
    assert first.messages == (ChatMessage(role="user", content="q"),)
    assert first.candidates == ("aaaa", "")


async def test_responses_get_their_raw_rewards(wires: httpx.AsyncClient) -> None:
    body = {"batch_prompt": ["q", "q"], "batch_response": ["a", "aaaaa"], "batch_candidates": []}
    assert read(await ask(wires, body)) == {
        "batch_score": [2.0, 3.0],  # u:q;a:a; is 8 long
        "batch_first_win_prob": [],
    }


async def test_candidates_come_before_responses(wires: httpx.AsyncClient) -> None:
    body = {"batch_prompt": ["q"], "batch_response": ["a"], "batch_candidates": [["b", "b"]]}
    assert read(await ask(wires, body)) == {"batch_score": [], "batch_first_win_prob": [0.5]}


async def test_nothing_asked_is_nothing_answered(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    body: dict[str, Any] = {"batch_prompt": [], "batch_response": [], "batch_candidates": []}
    assert read(await ask(wires, body)) == {"batch_score": [], "batch_first_win_prob": []}
    assert scoring.scored == []


@pytest.mark.parametrize(
    "lists",
    [{"batch_response": ["a", "b"]}, {"batch_candidates": [["a", "b"], ["a", "b"]]}],
)
async def test_there_are_as_many_answers_as_prompts(
    wires: httpx.AsyncClient, lists: dict[str, Any]
) -> None:
    response = await ask(wires, {"batch_prompt": ["q"]} | lists)
    assert response.status_code == 422
    assert f"{next(iter(lists))}: 2 for 1 prompts" in response.json()["detail"]


@pytest.mark.parametrize("candidates", [[["a"]], [["a", "b", "c"]], [[]]])
async def test_candidates_are_two(wires: httpx.AsyncClient, candidates: list[list[str]]) -> None:
    response = await ask(wires, {"batch_prompt": ["q"], "batch_candidates": candidates})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("batch_candidates.0: ")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", b"\xa2\xff\xfe", b"\x91" * 5000 + b"\x90", b'{"batch_prompt": []}'],
    ids=["empty", "no opcode", "no text", "too deep", "json"],
)
async def test_a_body_that_is_not_messagepack_is_refused(
    wires: httpx.AsyncClient, content: bytes
) -> None:
    response = await wires.post("/get_feedback", content=content)
    assert response.status_code == 422
    assert response.json()["detail"] == "body: cannot be read as MessagePack"


@pytest.mark.parametrize("body", [7, [], {"batch_prompt": "q"}, {"batch_prompt": [b"q"]}, {}])
async def test_a_messagepack_body_of_another_shape_is_refused(
    wires: httpx.AsyncClient, body: object
) -> None:
    response = await ask(wires, body)
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_request"
