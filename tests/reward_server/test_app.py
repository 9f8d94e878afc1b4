from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog

from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from reward_server.errors import RewardServerError
from reward_server.problems import MEDIA_TYPE
from tests.reward_server.conftest import Running
from tests.reward_server.tiny import FakeScorer

pytestmark = pytest.mark.anyio

GROUP: dict[str, Any] = {
    "id": "q1",
    "messages": [{"role": "user", "content": "What helps a stuffy nose?"}],
    "candidates": ["Rest.", "Steam helps."],
}


def body(**fields: Any) -> dict[str, Any]:
    return {"groups": [GROUP], **fields}


def body_with(**fields: Any) -> dict[str, Any]:
    return {"groups": [{**GROUP, **fields}]}


def body_without(field: str) -> dict[str, Any]:
    return {"groups": [{name: value for name, value in GROUP.items() if name != field}]}


async def test_every_candidate_gets_its_reward(http: httpx.AsyncClient, scorer: FakeScorer) -> None:
    response = await http.post("/v1/score", json=body())
    assert response.status_code == 200
    assert response.json() == {
        "model": "default",
        "fingerprint": scorer.info.fingerprint,
        "groups": [
            {
                "id": "q1",
                "results": [
                    {"reward": 5.0, "tokens": 6, "truncated_tokens": 0, "error": None},
                    {"reward": 12.0, "tokens": 13, "truncated_tokens": 0, "error": None},
                ],
            }
        ],
        "usage": {"tokens": 19, "computed_tokens": 19},
    }


async def test_the_answer_says_where_its_time_went(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/score", json=body())
    phases = [entry.split(";")[0] for entry in response.headers["server-timing"].split(", ")]
    assert phases == ["wait", "render", "forward"]


BAD = [
    pytest.param({}, 422, "invalid_request", "groups: Field required", id="no groups field"),
    pytest.param(body(groups=[]), 422, "invalid_request", "groups: ", id="no groups"),
    pytest.param(body(n=1), 422, "invalid_request", "n: Extra inputs", id="unknown field"),
    pytest.param(
        body_without("candidates"), 422, "invalid_request", "groups[0].candidates: ", id="missing"
    ),
    pytest.param(
        body_with(candidates=[]), 422, "invalid_request", "groups[0].candidates: ", id="empty"
    ),
    pytest.param(
        body_with(messages=[{"role": "doctor", "content": "Hm."}]),
        422,
        "invalid_request",
        "groups[0].messages[0].role: Input should be 'system', 'user' or 'assistant'",
        id="wrong role",
    ),
    pytest.param(
        body_with(messages=[{"role": "assistant", "content": "Hm."}]),
        422,
        "invalid_request",
        "groups[0]: messages end with the assistant",
        id="nothing to answer",
    ),
    pytest.param(
        body(on_overflow="ignore"), 422, "invalid_request", "on_overflow: ", id="overflow rule"
    ),
    pytest.param(
        body(groups=[GROUP] * 4), 422, "limit_exceeded", "groups: 4, limit 3", id="many groups"
    ),
    pytest.param(
        body_with(candidates=["x"] * 4),
        422,
        "limit_exceeded",
        "group 'q1': 4 candidates, limit 3",
        id="many candidates",
    ),
    pytest.param(body(model="other"), 404, "unknown_model", "'other'", id="unknown model"),
    pytest.param(
        body(expected_fingerprint="feed"),
        409,
        "fingerprint_mismatch",
        "expected_fingerprint: 'feed', served is ",
        id="other fingerprint",
    ),
    pytest.param(
        body_with(candidates=["x" * 4_000]), 413, "body_too_large", "limit 4000", id="large body"
    ),
]


@pytest.mark.parametrize(("sent", "status", "code", "detail"), BAD)
async def test_a_bad_request_gets_a_problem_document(
    http: httpx.AsyncClient, sent: dict[str, Any], status: int, code: str, detail: str
) -> None:
    response = await http.post("/v1/score", json=sent)
    problem = response.json()
    assert response.headers["content-type"] == MEDIA_TYPE
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert detail in problem["detail"]
    assert "\n" not in problem["detail"]
    assert problem["retryable"] is False
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"{", 422, id="broken JSON"),
        pytest.param(b'{"\xff"}', 400, id="no UTF-8"),
        pytest.param(b'{"groups": NaN}', 422, id="NaN"),
        pytest.param(json.dumps(body_with(candidates=["\ud800"])).encode(), 422, id="surrogate"),
        pytest.param(b"", 422, id="empty"),
    ],
)
async def test_a_body_that_is_not_the_protocols_json_gets_a_problem_document(
    http: httpx.AsyncClient, content: bytes, status: int
) -> None:
    headers = {"content-type": "application/json"}
    response = await http.post("/v1/score", content=content, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == MEDIA_TYPE


async def test_a_problem_never_quotes_the_conversation(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/score", json=body_with(messages="my private complaint"))
    assert response.status_code == 422
    assert "private" not in response.text


async def test_the_expected_fingerprint_is_let_through(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    sent = body(expected_fingerprint=scorer.info.fingerprint)
    assert (await http.post("/v1/score", json=sent)).status_code == 200


async def test_an_overloaded_server_says_when_to_come_back(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    scorer.gate.clear()
    many = body(groups=[GROUP, GROUP])
    waiting = asyncio.create_task(http.post("/v1/score", json=many))
    await asyncio.to_thread(scorer.entered.wait)
    refused = await http.post("/v1/score", json=body())
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["retryable"] is True
    scorer.gate.set()
    assert (await waiting).status_code == 200


async def test_a_dead_device_turns_readiness_off_and_leaves_the_process_alive(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    assert (await http.get("/health/ready")).json() == {"status": "ready"}
    scorer.error = RuntimeError("the device is gone")
    assert (await http.post("/v1/score", json=body())).status_code == 503
    assert (await http.get("/health/ready")).status_code == 503
    assert (await http.get("/health/live")).status_code == 200
    assert "reward_server_ready 0.0" in (await http.get("/metrics")).text


async def test_a_model_shows_what_its_fingerprint_stands_for(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    expected = scorer.info.model_dump(mode="json")
    assert (await http.get("/v1/models/default")).json() == expected
    assert (await http.get("/v1/models")).json() == {"models": [expected]}
    assert (await http.get("/v1/models/other")).json()["code"] == "unknown_model"


async def test_unknown_routes_and_methods_get_problem_documents(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/score")).json()["code"] == "not_found"
    wrong_method = await http.get("/v1/score")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    assert wrong_method.headers["content-type"] == MEDIA_TYPE


async def test_a_bug_in_a_route_is_a_problem_document_and_still_raised(
    config: RewardServerConfig,
    scorer: FakeScorer,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app(config, scorer)
    monkeypatch.delattr(app.state.service, "info")
    async with running(app):
        with pytest.raises(AttributeError):
            await http_get(httpx.ASGITransport(app), "/v1/models")
        quiet = httpx.ASGITransport(app, raise_app_exceptions=False)
        problem = (await http_get(quiet, "/v1/models")).json()
    assert problem["code"] == RewardServerError.code
    assert problem["detail"] == "AttributeError; see the log"


async def http_get(transport: httpx.ASGITransport, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("trace-7", True), ("", False), ("with space", False), ("x" * 129, False)],
)
async def test_a_request_keeps_its_well_formed_id(
    http: httpx.AsyncClient, given: str, is_kept: bool
) -> None:
    response = await http.get("/health/live", headers={"x-request-id": given})
    answered = response.headers["x-request-id"]
    assert answered
    assert (answered == given) is is_kept


async def test_metrics_count_what_happened(http: httpx.AsyncClient) -> None:
    await http.post("/v1/score", json=body())
    await http.post("/v1/score", json={})
    await http.get("/nowhere")
    text = (await http.get("/metrics")).text
    for line in [
        'reward_server_requests_total{route="/v1/score",status="200"} 1.0',
        'reward_server_requests_total{route="/v1/score",status="422"} 1.0',
        'reward_server_requests_total{route="unmatched",status="404"} 1.0',
        "reward_server_candidates_total 2.0",
        "reward_server_tokens_total 19.0",
        "reward_server_pending_candidates 0.0",
        'reward_server_phase_seconds_count{phase="forward"} 1.0',
        "reward_server_ready 1.0",
    ]:
        assert line in text.splitlines()


async def test_logs_hold_no_text_of_a_conversation(http: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        await http.post("/v1/score", json=body())
        await http.post("/v1/score", json=body_with(messages="stuffy"))
    assert [entry["event"] for entry in logs] == ["request.scored", "request.refused"]
    assert "stuffy" not in str(logs)
    assert "Steam" not in str(logs)


async def test_operation_ids_are_stable_and_problems_documented(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    ids = {path: operation["operationId"] for path, o in paths.items() for operation in o.values()}
    assert ids == {
        "/v1/score": "score",
        "/v1/models": "list_models",
        "/v1/models/{name}": "get_model",
        "/health/live": "live",
        "/health/ready": "ready",
    }
    documented = paths["/v1/score"]["post"]["responses"]
    assert {"200", "400", "404", "409", "413", "422", "429", "500", "503"} == set(documented)
    schema = documented["422"]["content"][MEDIA_TYPE]["schema"]
    assert schema == {"$ref": "#/components/schemas/Problem"}
