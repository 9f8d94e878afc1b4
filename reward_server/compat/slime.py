"""slime's remote reward model, ``POST /slime``; slime asks whatever URL ``--rm-url`` has.

Peer: slime at commit 624b824a (August 2026), ``rollout/rm_hub/__init__.py``. The whole answer
becomes the sample's reward: a number, or with ``?reward_key=NAME`` an object with the number under
that name, for runs with ``--reward-key NAME``.

Nothing is squashed. ``prompt`` is a list of messages or a string; a string is what the user said,
unless the URL has ``?rendered=true``, which runs with ``--apply-chat-template`` need: then prompt
and response are one text that the policy's template wrote. A label that is a text or a number is
the reference answer, for kinds of reward that check against one.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import JsonValue

from reward_server.compat.base import (
    DEFAULT,
    Foreign,
    ModelQuery,
    Turns,
    answered,
    candidates_of,
    rewards_of,
)
from reward_server.dependencies import ScoringDep
from reward_server.errors import InvalidRequest
from reward_server.problems import problems
from reward_server.protocol import CandidateResult, ChatMessage, ScoreRequest, Text
from reward_server.scorer import RawInput, RawRequest

router = APIRouter(tags=["slime"])


class SlimeRequest(Foreign):
    """One sample."""

    prompt: Text | Turns
    response: Text
    label: JsonValue = None


def to_score(body: SlimeRequest, *, model: str) -> ScoreRequest:
    """The response to a conversation, or to a user who said ``prompt``.

    Raises:
        InvalidRequest: if the conversation does not end where a response is due.
    """
    if isinstance(body.prompt, str):
        messages = [ChatMessage(role="user", content=body.prompt)]
    else:
        messages = [turn.to_message() for turn in body.prompt]
    group = answered(messages, body.response, field="prompt")
    group = group.model_copy(update={"reference": _reference(body.label)})
    return ScoreRequest(model=model, groups=(group,))


def to_raw(body: SlimeRequest, *, model: str) -> RawRequest:
    """Prompt and response as the one text that they were.

    Raises:
        InvalidRequest: if the prompt is a list of messages.
    """
    if not isinstance(body.prompt, str):
        raise InvalidRequest("prompt: is a list of messages; ask without rendered=true")
    text = body.prompt + body.response
    return RawRequest(inputs=(RawInput(text=text, add_special_tokens=False),), model=model)


def from_result(result: CandidateResult, *, reward_key: str | None) -> float | dict[str, float]:
    """The reward, alone or under a name.

    Raises:
        UnsupportedInput, NoReward: if there is none.
    """
    (reward,) = rewards_of([result])
    return reward if reward_key is None else {reward_key: reward}


def _reference(label: JsonValue) -> str | None:
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        return None
    return str(label)


@router.post("/slime", responses=problems(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504))
async def slime_reward(
    body: SlimeRequest,
    scoring: ScoringDep,
    model: ModelQuery = DEFAULT,
    reward_key: Annotated[Text | None, Query()] = None,
    rendered: Annotated[bool, Query()] = False,
) -> float | dict[str, float]:
    """The remote reward model of slime: one sample, one raw reward."""
    if rendered:
        (result,) = (await scoring.score_raw(to_raw(body, model=model))).results
    else:
        (result,) = candidates_of(await scoring.score(to_score(body, model=model)))
    return from_result(result, reward_key=reward_key)
