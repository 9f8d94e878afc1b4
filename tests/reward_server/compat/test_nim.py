from __future__ import annotations

import httpx
import pytest

from reward_server.protocol import ChatMessage
from tests.reward_server.compat.fake import OBJECTIVES, REQUEST_ID, FakeScoring

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
MESSAGES = [
    {"role": "user", "content": "nose?"},
    {"role": "assistant", "content": "Rest."},
]  # u:nose?;a:Rest.; is 16 long


async def test_the_answer_is_a_completion_that_says_the_reward(wires: httpx.AsyncClient) -> None:
    response = await wires.post(PATH, json={"model": "default", "messages": MESSAGES})
    answer = response.json()
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": "chat.completion",
        "model": "default",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "reward:4.0"},
                "logprobs": {
                    "content": [
                        {"token": "reward", "logprob": 4.0, "bytes": None, "top_logprobs": []}
                    ]
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 16, "total_tokens": 16, "completion_tokens": 0},
    }


async def test_objectives_are_pairs_that_the_documented_client_reads(
    wires: httpx.AsyncClient,
) -> None:
    answer = (await wires.post(PATH, json={"model": "objectives", "messages": MESSAGES})).json()
    content = answer["choices"][0]["message"]["content"]
    pairs = [pair.split(":") for pair in content.split(",")]
    read = {name: float(number) for name, number in pairs}
    assert read == dict(zip(OBJECTIVES, [4.0, 3.0, 2.0], strict=True))


async def test_the_last_message_is_the_candidate_and_the_rest_the_conversation(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    turns = [{"role": "system", "content": "Be kind."}, *MESSAGES, *MESSAGES]
    await wires.post(PATH, json={"messages": turns, "temperature": 0.2, "stream": False})
    (group,) = scoring.scored[0].groups
    assert len(group.messages) == 4
    assert group.messages[-1] == ChatMessage(role="user", content="nose?")
    assert group.candidates == ("Rest.",)


async def test_a_stream_is_refused(wires: httpx.AsyncClient) -> None:
    response = await wires.post(PATH, json={"messages": MESSAGES, "stream": True})
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "message": "stream: Input should be False",
            "type": "Bad Request",
            "param": "body.stream",
            "code": 400,
        }
    }


@pytest.mark.parametrize(
    "messages",
    [MESSAGES[:1], MESSAGES[1:], [*MESSAGES, MESSAGES[1]], []],
    ids=["no response", "no message", "two responses", "nothing"],
)
async def test_what_is_not_a_response_to_a_message_is_refused(
    wires: httpx.AsyncClient, messages: list[dict[str, str]]
) -> None:
    response = await wires.post(PATH, json={"messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("messages: ")


async def test_an_unknown_model_is_not_found(wires: httpx.AsyncClient) -> None:
    response = await wires.post(PATH, json={"model": "other", "messages": MESSAGES})
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "NotFoundError"
