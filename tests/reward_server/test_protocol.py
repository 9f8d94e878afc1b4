from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from corpora.conversation import Conversation
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    ItemError,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)

REQUEST: dict[str, Any] = {
    "model": "default",
    "groups": [
        {
            "id": "q1",
            "messages": [{"role": "user", "content": "What helps a stuffy nose?"}],
            "candidates": ["Saline rinses …", "Antibiotics …"],
            "reference": None,
        }
    ],
    "on_overflow": "error",
    "expected_fingerprint": None,
    "lane": "interactive",
    "deadline_ms": None,
    "use_cache": True,
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**REQUEST, **fields}


def changed_group(**fields: Any) -> dict[str, Any]:
    return changed(groups=[{**REQUEST["groups"][0], **fields}])


def test_a_request_survives_json() -> None:
    request = ScoreRequest.model_validate(REQUEST)
    assert json.loads(request.model_dump_json()) == REQUEST


def test_all_but_the_groups_has_a_default() -> None:
    assert ScoreRequest.model_validate({"groups": REQUEST["groups"]}) == ScoreRequest(
        groups=(ScoreGroup.model_validate(REQUEST["groups"][0]),)
    )


def test_an_answer_has_the_documented_shape() -> None:
    result = CandidateResult(reward=1.93, tokens=61)
    response = ScoreResponse(
        model="default",
        fingerprint="5f0c",
        groups=(GroupResult(id="q1", results=(result,)),),
        usage=Usage(tokens=61, computed_tokens=61),
    )
    assert json.loads(response.model_dump_json()) == {
        "model": "default",
        "fingerprint": "5f0c",
        "groups": [
            {
                "id": "q1",
                "results": [
                    {
                        "reward": 1.93,
                        "tokens": 61,
                        "truncated_tokens": 0,
                        "error": None,
                        "parts": None,
                        "disagreement": None,
                        "calibrated": None,
                    },
                ],
            }
        ],
        "usage": {"tokens": 61, "computed_tokens": 61, "cached_candidates": 0},
        "engine": None,
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(changed(temperature=1), id="unknown field"),
        pytest.param(changed_group(weight=1), id="unknown field of a group"),
        pytest.param(changed(groups=[]), id="no groups"),
        pytest.param(changed(on_overflow="ignore"), id="unknown overflow rule"),
        pytest.param(changed_group(messages=[]), id="no messages"),
        pytest.param(changed_group(candidates=[]), id="no candidates"),
        pytest.param(changed_group(candidates=[None]), id="candidate is no text"),
        pytest.param(changed_group(candidates=["\ud800"]), id="candidate is no Unicode"),
        pytest.param(
            changed_group(messages=[{"role": "doctor", "content": ""}]), id="unknown role"
        ),
        pytest.param(
            changed_group(messages=[{"role": "assistant", "content": "Rest."}]),
            id="ends with the assistant",
        ),
    ],
)
def test_a_request_of_another_shape_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScoreRequest.model_validate(body)


def test_an_empty_candidate_is_a_candidate() -> None:
    request = ScoreRequest.model_validate(changed_group(candidates=[""]))
    assert request.groups[0].candidates == ("",)


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_cannot_be_expressed(reward: float) -> None:
    with pytest.raises(ValidationError):
        CandidateResult(reward=reward, tokens=1)


def test_a_result_is_either_a_reward_or_an_error() -> None:
    error = ItemError(code="non_finite_reward", detail="nan")
    with pytest.raises(ValidationError, match="either"):
        CandidateResult(reward=None, tokens=1)
    with pytest.raises(ValidationError, match="either"):
        CandidateResult(reward=1.0, tokens=1, error=error)


def test_a_group_is_made_of_a_conversation() -> None:
    conversation = Conversation.ask("Why?", system="Be brief.")
    group = ScoreGroup.of("q1", conversation, ["Because."])
    assert [m.model_dump() for m in group.messages] == conversation.to_dicts()


@pytest.mark.parametrize("module", ["protocol", "client", "config", "errors"])
def test_what_a_caller_imports_brings_no_torch(module: str) -> None:
    heavy = ["torch", "vllm", "ray", "transformers", "fastapi"]
    code = (
        f"import sys, reward_server.{module}; "
        f"sys.exit(', '.join(name for name in {heavy} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""
