from __future__ import annotations

from typing import Any

import httpx
import pytest

from reward_server.protocol import ChatMessage
from reward_server.scorer import RawInput
from tests.reward_server.compat.fake import FakeScoring

pytestmark = pytest.mark.anyio

SAMPLE = {"prompt": "nose?", "response": "Rest.", "label": None}  # u:nose?;a:Rest.; is 16 long


async def test_the_answer_is_a_bare_number(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/slime", json=SAMPLE)
    assert response.json() == 4.0


async def test_with_a_reward_key_the_answer_is_an_object(wires: httpx.AsyncClient) -> None:
    response = await wires.post("/slime?reward_key=score", json=SAMPLE)
    assert response.json() == {"score": 4.0}


async def test_a_text_is_what_the_user_said(wires: httpx.AsyncClient, scoring: FakeScoring) -> None:
    await wires.post("/slime", json=SAMPLE)
    (group,) = scoring.scored[0].groups
    assert group.messages == (ChatMessage(role="user", content="nose?"),)
    assert group.candidates == ("Rest.",)


async def test_a_list_is_the_conversation(wires: httpx.AsyncClient, scoring: FakeScoring) -> None:
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "nose?", "name": "ignored"},
    ]
    await wires.post("/slime", json=SAMPLE | {"prompt": turns})
    (group,) = scoring.scored[0].groups
    assert [message.role for message in group.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("label", "reference"),
    [("B", "B"), (42, "42"), (0.5, "0.5"), (None, None), (True, None), ({"a": 1}, None)],
)
async def test_a_label_that_is_an_answer_becomes_the_reference(
    wires: httpx.AsyncClient, scoring: FakeScoring, label: Any, reference: str | None
) -> None:
    response = await wires.post("/slime?model=rules", json=SAMPLE | {"label": label})
    assert response.status_code == 200
    assert scoring.scored[0].groups[0].reference == reference


async def test_rendered_prompts_are_one_text_with_their_response(
    wires: httpx.AsyncClient, scoring: FakeScoring
) -> None:
    body = SAMPLE | {"prompt": "<|user|>nose?<|assistant|>"}
    response = await wires.post("/slime?rendered=true", json=body)
    assert response.json() == 31 / 4
    assert scoring.scored_raw[0].inputs == (
        RawInput(text="<|user|>nose?<|assistant|>Rest.", add_special_tokens=False),
    )


async def test_a_list_of_messages_is_not_a_rendered_prompt(wires: httpx.AsyncClient) -> None:
    body = SAMPLE | {"prompt": [{"role": "user", "content": "nose?"}]}
    response = await wires.post("/slime?rendered=true", json=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith("prompt: is a list of messages")


async def test_a_conversation_that_was_answered_already_is_refused(
    wires: httpx.AsyncClient,
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    response = await wires.post("/slime", json=SAMPLE | {"prompt": turns})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("prompt: no user's message before the response")
