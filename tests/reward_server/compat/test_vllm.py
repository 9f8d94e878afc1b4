"""Bodies are those that vLLM 0.32 answered on a tiny reward model, with this model's numbers."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from reward_server.compat.base import sigmoid, softmax
from reward_server.compat.vllm import SharedScoreRoute
from reward_server.protocol import Problem, ScoreRequest
from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import REQUEST_ID, FakeScoring, make_app

pytestmark = pytest.mark.anyio

RAW: dict[str, Any] = {"use_activation": False}
CHAT = [{"role": "user", "content": "nose?"}, {"role": "assistant", "content": "Rest."}]


def usage(tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


async def probs(wires: httpx.AsyncClient, body: dict[str, Any]) -> list[list[float]]:
    response = await wires.post("/classify", json=body)
    assert response.status_code == 200, response.text
    return [each["probs"] for each in response.json()["data"]]


async def error(wires: httpx.AsyncClient, path: str, body: Any) -> dict[str, Any]:
    response = await wires.post(path, json=body)
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["code"] == response.status_code
    return found


async def test_classes_are_squashed_unless_told_otherwise(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/classify", json={"model": "default", "input": "abc"})
    answer = response.json()
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": f"classify-{REQUEST_ID}",
        "object": "list",
        "model": "default",
        "data": [{"index": 0, "label": "LABEL_0", "probs": [sigmoid(1.0)], "num_classes": 1}],
        "usage": usage(4),
    }


@pytest.mark.parametrize(
    ("flags", "is_raw"),
    [
        ({}, False),
        ({"use_activation": True}, False),
        ({"use_activation": None}, False),
        ({"use_activation": False}, True),
        ({"activation": False}, True),
        ({"activation": True}, False),
        ({"use_activation": True, "activation": False}, False),
        ({"use_activation": False, "activation": True}, True),
    ],
)
async def test_the_newer_name_of_the_flag_wins(
    wires: httpx.AsyncClient, flags: dict[str, Any], is_raw: bool
) -> None:
    assert await probs(wires, {"input": "abc", **flags}) == [[1.0 if is_raw else sigmoid(1.0)]]


async def test_verl_finds_the_reward_where_it_looks(wires: httpx.AsyncClient) -> None:
    body = {"model": "default", "input": "abc", "activation": False}
    answer = (await wires.post("/classify", json=body)).json()
    assert answer["data"][-1]["probs"][-1] == 1.0


async def test_several_logits_have_a_softmax_and_their_names(wires: httpx.AsyncClient) -> None:
    body = {"model": "objectives", "input": "abc"}
    (item,) = (await wires.post("/classify", json=body)).json()["data"]
    assert item == {
        "index": 0,
        "label": "helpfulness",
        "probs": softmax([1.0, 0.0, -1.0]),
        "num_classes": 3,
    }


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("abc", [RawInput(text="abc")]),
        (["abc", "d"], [RawInput(text="abc"), RawInput(text="d")]),
        ([5, 6], [RawInput(ids=(5, 6))]),
        ([[5, 6], [7]], [RawInput(ids=(5, 6)), RawInput(ids=(7,))]),
        ("", [RawInput(text="")]),
    ],
)
async def test_inputs_are_texts_or_token_ids(
    wires: httpx.AsyncClient, scoring: FakeScoring, given: Any, inputs: list[RawInput]
) -> None:
    assert len(await probs(wires, {"input": given})) == len(inputs)
    assert list(scoring.scored_raw[0].inputs) == inputs


async def test_special_tokens_can_be_left_to_the_caller(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    await probs(wires, {"input": "abc", "add_special_tokens": False})
    assert scoring.scored_raw[0].inputs[0] == RawInput(text="abc", add_special_tokens=False)


async def test_messages_are_scored_as_a_response_to_a_conversation(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    assert await probs(wires, {"messages": CHAT, **RAW}) == [[4.0]]  # u:nose?;a:Rest.; is 16 long
    (group,) = scoring.scored[0].groups
    assert (group.messages[0].content, group.candidates) == ("nose?", ("Rest.",))


async def test_messages_win_over_an_input(wires: httpx.AsyncClient, scoring: FakeScoring) -> None:
    await probs(wires, {"messages": CHAT, "input": "abc"})
    assert scoring.scored
    assert not scoring.scored_raw


async def test_parts_of_a_message_are_lines_of_a_text(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    parts = [{"type": "text", "text": "stuffy"}, {"type": "text", "text": "nose?"}]
    await probs(wires, {"messages": [{"role": "user", "content": parts}, CHAT[1]]})
    assert scoring.scored[0].groups[0].messages[0].content == "stuffy\nnose?"


async def test_objectives_of_a_conversation_are_its_classes(wires: httpx.AsyncClient) -> None:
    assert await probs(wires, {"model": "objectives", "messages": CHAT, **RAW}) == [[4.0, 3.0, 2.0]]


async def test_the_header_names_the_request_before_the_body_does(wires: httpx.AsyncClient) -> None:
    body = {"input": "a", "request_id": "mine"}
    assert (await wires.post("/classify", json=body)).json()["id"] == "classify-mine"
    answer = await wires.post("/classify", json=body, headers={"x-request-id": "h"})
    assert answer.json()["id"] == "classify-h"


async def test_low_priority_is_bulk_work(wires: httpx.AsyncClient, scoring: FakeScoring) -> None:
    for priority, lane in ((-1, "interactive"), (0, "interactive"), (3, "bulk")):
        await probs(wires, {"input": "a", "priority": priority})
        assert scoring.scored_raw[-1].lane == lane


async def test_pooling_gives_the_numbers_in_another_shape(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/pooling", json={"input": ["abc", "a"], "task": "classify", **RAW})
    answer = response.json()
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": f"pooling-{REQUEST_ID}",
        "object": "list",
        "model": "default",
        "data": [
            {"index": 0, "object": "pooling", "data": [1.0]},
            {"index": 1, "object": "pooling", "data": [0.5]},
        ],
        "usage": usage(6),
    }


async def test_pooling_squashes_by_default_and_takes_conversations(
    wires: httpx.AsyncClient,
) -> None:
    answer = (await wires.post("/pooling", json={"messages": CHAT})).json()
    assert answer["data"][0]["data"] == [sigmoid(4.0)]


@pytest.mark.parametrize(("endianness", "order"), [("native", "="), ("big", ">"), ("little", "<")])
async def test_pooling_packs_numbers_into_base64(
    wires: httpx.AsyncClient, endianness: str, order: str
) -> None:
    body = {"input": "abc", "encoding_format": "base64", "endianness": endianness, **RAW}
    answer = (await wires.post("/pooling", json=body)).json()
    assert struct.unpack(f"{order}f", base64.b64decode(answer["data"][0]["data"])) == (1.0,)


@pytest.mark.parametrize(
    "sides",
    [
        {"text_1": "q", "text_2": ["aa", "b"]},
        {"text_1": ["q"], "text_2": ["aa", "b"]},
        {"text_1": ["q", "q"], "text_2": ["aa", "b"]},
        {"data_1": "q", "data_2": ["aa", "b"]},
        {"queries": "q", "documents": ["aa", "b"]},
        {"queries": "q", "items": ["aa", "b"]},
    ],
)
async def test_scores_are_those_of_pairs_under_any_of_their_names(
    wires: httpx.AsyncClient, scoring: FakeScoring, sides: dict[str, Any]
) -> None:
    answer = (await wires.post("/score", json=sides | RAW)).json()
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": f"score-{REQUEST_ID}",
        "object": "list",
        "model": "default",
        "data": [
            {"index": 0, "object": "score", "score": 1.0},
            {"index": 1, "object": "score", "score": 0.75},
        ],
        "usage": usage(7),
    }
    assert scoring.scored_raw[0].inputs == (
        RawInput(text="q", pair="aa"),
        RawInput(text="q", pair="b"),
    )


async def test_scores_are_squashed_unless_told_otherwise(wires: httpx.AsyncClient) -> None:
    answer = (await wires.post("/score", json={"text_1": "q", "text_2": "aa"})).json()
    assert answer["data"][0]["score"] == sigmoid(1.0)


async def test_an_unknown_model_is_not_found(wires: httpx.AsyncClient) -> None:
    for path, body in (
        ("/classify", {"input": "a"}),
        ("/pooling", {"input": "a"}),
        ("/score", {"text_1": "a", "text_2": "b"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ):
        found = await error(wires, path, body | {"model": "other"})
        assert (found["code"], found["type"], found["param"]) == (404, "NotFoundError", None)


async def test_an_empty_model_name_is_the_default(wires: httpx.AsyncClient) -> None:
    assert await probs(wires, {"model": "", "input": "abc", **RAW}) == [[1.0]]


async def test_an_input_that_is_too_long_is_a_bad_request(wires: httpx.AsyncClient) -> None:
    found = await error(wires, "/classify", {"input": "x" * 80})
    assert (found["type"], found["param"], found["code"]) == (
        "BadRequestError",
        "input_tokens",
        400,
    )


@pytest.mark.parametrize("limit", [-1, 64])
async def test_truncation_to_what_the_model_reads_cuts_the_beginning(
    wires: httpx.AsyncClient, scoring: FakeScoring, limit: int
) -> None:
    body = {"input": "x" * 80, "truncate_prompt_tokens": limit, **RAW}
    assert await probs(wires, body) == [[16.0]]
    assert scoring.scored_raw[0].on_overflow == "truncate"


async def test_truncation_to_less_is_a_limit(wires: httpx.AsyncClient) -> None:
    assert await probs(wires, {"input": "ab", "truncate_prompt_tokens": 3, **RAW}) == [[0.75]]
    for body in ({"input": "abc"}, {"messages": CHAT}):
        found = await error(wires, "/classify", body | {"truncate_prompt_tokens": 3})
        assert found["message"].startswith("truncate_prompt_tokens: input 0 has ")
        assert found["param"] == "input_tokens"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "body.input"),
        ([], "body"),
        ({"input": []}, "body.input"),
        ({"input": [[]]}, "body.input.0"),
        ({"input": 1}, "body.input"),
        ({"input": [-1]}, "body.input.0"),
        ({"input": ["a", 1]}, "body.input.1"),
        ({"input": "a", "normalize": True}, "body"),
        ({"input": "a", "padding": "max_length"}, "body.padding"),
        ({"input": "a", "truncate_prompt_tokens": 9, "truncation_side": "right"}, "body"),
        ({"input": "a", "truncate_prompt_tokens": -2}, "body.truncate_prompt_tokens"),
        ({"messages": []}, "body.messages"),
        ({"messages": CHAT, "chat_template": "{{ x }}"}, "body.chat_template"),
        ({"messages": CHAT, "chat_template_kwargs": {"x": 1}}, "body.chat_template_kwargs"),
        ({"messages": CHAT, "add_generation_prompt": True}, "body.add_generation_prompt"),
        ({"messages": CHAT, "continue_final_message": True}, "body.continue_final_message"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "body.messages.0.role"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_the_field_is_named(
    wires: httpx.AsyncClient, body: Any, param: str
) -> None:
    found = await error(wires, "/classify", body)
    assert (found["code"], found["type"], found["param"]) == (400, "Bad Request", param)


@pytest.mark.parametrize(
    "options",
    [
        {"task": "token_classify"},
        {"task": "score"},
        {"dimensions": 3},
        {"encoding_format": "bytes"},
        {"embed_dtype": "float16"},
    ],
)
async def test_what_a_reward_has_no_form_for_is_refused(
    wires: httpx.AsyncClient, options: dict[str, Any]
) -> None:
    found = await error(wires, "/pooling", {"input": "a", **options})
    assert found["param"] == f"body.{next(iter(options))}"


@pytest.mark.parametrize("messages", [CHAT[:1], CHAT[1:], [*CHAT, CHAT[1]]])
async def test_a_conversation_ends_with_one_response(
    wires: httpx.AsyncClient, messages: list[dict[str, str]]
) -> None:
    found = await error(wires, "/classify", {"messages": messages})
    assert found["type"] == "BadRequestError"
    assert found["message"].startswith("messages: ")


async def test_more_tokens_than_the_model_reads_cannot_be_kept(wires: httpx.AsyncClient) -> None:
    found = await error(wires, "/classify", {"input": "a", "truncate_prompt_tokens": 65})
    assert found["message"] == "truncate_prompt_tokens: 65, limit 64; give -1"


@pytest.mark.parametrize(
    "sides",
    [
        {"text_1": ["a", "b"], "text_2": ["c"]},
        {"text_1": ["a", "b"], "text_2": "c"},
        {"text_1": [], "text_2": ["c"]},
        {"text_1": "a", "text_2": []},
        {"text_1": "a"},
        {"queries": "a"},
        {"text_1": {"content": []}, "text_2": "b"},
        {"text_1": "a", "text_2": "b", "max_tokens_per_doc": 5},
        "a",
    ],
)
async def test_sides_that_do_not_fit_are_refused(wires: httpx.AsyncClient, sides: Any) -> None:
    assert (await error(wires, "/score", sides))["code"] == 400


async def test_a_kind_without_texts_of_its_own_scores_conversations_only(
    wires: httpx.AsyncClient,
) -> None:
    assert (await error(wires, "/classify", {"model": "rules", "input": "a"}))["code"] == 400
    assert await probs(wires, {"model": "rules", "messages": CHAT, **RAW}) == [[4.0]]


native = APIRouter(route_class=SharedScoreRoute)


@native.post("/v1/score", responses={422: {"model": Problem}})
async def native_score(body: ScoreRequest) -> dict[str, str]:
    return {"native": body.groups[0].id}


@pytest.fixture
async def shared(scoring: FakeScoring) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(scoring, routers=[native]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_a_shared_path_answers_native_bodies_as_before(shared: httpx.AsyncClient) -> None:
    group = {"id": "q", "messages": CHAT[:1], "candidates": ['a "text_1": "queries"']}
    response = await shared.post("/v1/score", json={"groups": [group]})
    assert response.json() == {"native": "q"}
    response = await shared.post("/v1/score", json={"text_1": "a", "groups": []})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert (await shared.post("/v1/score", json={})).status_code == 422


@pytest.mark.parametrize(
    "sides",
    [
        {"text_1": "q", "text_2": "aa"},
        {"data_1": "q", "data_2": "aa"},
        {"queries": "q", "documents": "aa"},
    ],
)
async def test_a_shared_path_answers_vllms_bodies_in_its_words(
    shared: httpx.AsyncClient, sides: dict[str, str]
) -> None:
    response = await shared.post("/v1/score", json=sides)
    assert response.json()["data"] == [{"index": 0, "object": "score", "score": sigmoid(1.0)}]
    assert (await error(shared, "/v1/score", sides | {"model": "other"}))["code"] == 404
    assert (await error(shared, "/v1/score", sides | {"priority": "x"}))["code"] == 400
