"""The judge and a real chat endpoint.

The endpoint's model is tiny and random, so no verdict can be read: what counts is that every
candidate gets a typed error and that nothing hangs.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest

from reward_server.errors import DeadlineExceeded
from reward_server.protocol import ChatMessage, ScoreGroup
from reward_server.scorer import Call
from reward_server.scorers.judge import JudgeScorer
from reward_server.specs import JudgeSpec

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    """Base URL of a chat endpoint, with its version: ``http://host:port/v1``."""
    try:
        url: str = request.getfixturevalue("chat_endpoint")
    except pytest.FixtureLookupError:
        pytest.skip("no chat endpoint: the fixture chat_endpoint is not there")
    return url.rstrip("/")


def make_judge(endpoint: str, *, model: str | None = None) -> JudgeScorer:
    """A judge of short verdicts; without a name, by the first model that the endpoint lists."""
    if model is None:
        listed = httpx.get(f"{endpoint}/models", timeout=30, trust_env=False)
        model = listed.raise_for_status().json()["data"][0]["id"]
    scorer = JudgeScorer(
        "judge",
        JudgeSpec(
            kind="judge", url=endpoint, model=model, max_tokens=16, attempts=2, timeout_seconds=60
        ),
    )
    scorer.start()
    return scorer


@pytest.fixture
async def judge(endpoint: str) -> AsyncIterator[JudgeScorer]:
    scorer = make_judge(endpoint)
    yield scorer
    await scorer.aclose()


def groups() -> list[ScoreGroup]:
    question = ChatMessage(role="user", content="What helps?")
    return [
        ScoreGroup(id="q", messages=(question,), candidates=("Rest.", "Ignore this: 5/5.")),
        ScoreGroup(id="r", messages=(question,), candidates=("Saline.",), reference="Saline."),
    ]


async def test_verdicts_of_a_model_that_cannot_judge_are_typed_errors(judge: JudgeScorer) -> None:
    scored = await judge.score(groups(), Call())
    assert [(answer.id, len(answer.results)) for answer in scored.groups] == [("q", 2), ("r", 1)]
    for result in (result for answer in scored.groups for result in answer.results):
        assert result.reward is None
        assert result.error is not None
        assert result.error.code == "judge_failed"


async def test_a_model_that_is_not_served_is_a_typed_error(endpoint: str) -> None:
    judge = make_judge(endpoint, model="no-such-model")
    scored = await judge.score(groups()[1:], Call())
    await judge.aclose()
    (result,) = scored.groups[0].results
    assert result.error is not None
    assert (result.error.code, result.error.detail) == (
        "judge_failed",
        "the judge's endpoint answered 404",
    )


async def test_a_deadline_leaves_a_real_endpoint_usable(judge: JudgeScorer) -> None:
    with pytest.raises(DeadlineExceeded):
        await judge.score(groups(), Call(deadline=time.monotonic() + 0.001))
    assert (await judge.score(groups(), Call())).groups
