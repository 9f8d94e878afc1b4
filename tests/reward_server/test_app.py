"""The native routes over a fake scorer: scoring, refusals, health, metrics, access, description."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog

from reward_server.access import Keyring
from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    CandidateTooLong,
    DeadlineExceeded,
    Overloaded,
    RewardServerError,
)
from reward_server.problems import MEDIA_TYPE
from tests.reward_server.asking import (
    GROUP,
    MARKER,
    SHORT,
    Client,
    body,
    body_with,
    body_without,
)
from tests.reward_server.conftest import Running
from tests.reward_server.tiny import FakeScorer

pytestmark = pytest.mark.anyio


async def test_every_candidate_gets_its_reward(http: httpx.AsyncClient, scorer: FakeScorer) -> None:
    response = await http.post("/v1/score", json=body())
    assert response.status_code == 200
    empty = {
        "truncated_tokens": 0,
        "error": None,
        "parts": None,
        "disagreement": None,
        "calibrated": None,
    }
    assert response.json() == {
        "model": "default",
        "fingerprint": scorer.info.fingerprint,
        "groups": [
            {
                "id": "q1",
                "results": [
                    {"reward": 5.0, "tokens": 6, **empty},
                    {"reward": 12.0, "tokens": 13, **empty},
                ],
            }
        ],
        "usage": {"tokens": 19, "computed_tokens": 19, "cached_candidates": 0},
        "engine": "padded",
    }


async def test_headers_say_which_model_answered_and_where_its_time_went(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    response = await http.post("/v1/score", json=body())
    assert response.headers["x-reward-fingerprint"] == scorer.info.fingerprint
    phases = response.headers["server-timing"].split(", ")
    assert phases[:3] == ["render;dur=250.0", "wait;dur=500.0", "forward;dur=1000.0"]
    assert phases[3].startswith("other;dur=")


async def test_only_answers_of_a_model_name_one(http: httpx.AsyncClient) -> None:
    for path in ("/v1/models", "/health/ready", "/metrics"):
        headers = (await http.get(path)).headers
        assert "x-reward-fingerprint" not in headers
        assert "server-timing" not in headers


async def test_the_scorer_is_told_how_the_caller_wants_it(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    sent = body(on_overflow="truncate", lane="bulk", deadline_ms=60_000, use_cache=False)
    assert (await http.post("/v1/score", json=sent)).status_code == 200
    ((groups, call),) = scorer.calls
    assert groups == ["q1"]
    assert (call.on_overflow, call.lane, call.uses_cache) == ("truncate", "bulk", False)
    assert 0 < call.deadline < float("inf")


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
    pytest.param(body(lane="fast"), 422, "invalid_request", "lane: ", id="lane"),
    pytest.param(body(deadline_ms=0), 422, "invalid_request", "deadline_ms: ", id="deadline"),
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


async def test_one_fault_is_one_error(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/score", json=body_with(candidates=[]))
    [error] = response.json()["errors"]
    assert error["field"] == "groups[0].candidates"


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
        pytest.param(b'{"groups": 1' + b"0" * 5_000 + b"}", 413, id="an endless number"),
        pytest.param(b"[" * 3_900, 400, id="deeply nested"),
        pytest.param(json.dumps(body_with(candidates=["\ud800"])).encode(), 422, id="surrogate"),
        pytest.param(json.dumps(body(model="\ud800")).encode(), 404, id="surrogate as a name"),
        pytest.param(b'{"groups": [], "\\ud800": 1}', 422, id="surrogate as a field"),
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


async def test_the_expected_fingerprint_is_let_through(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    sent = body(expected_fingerprint=scorer.info.fingerprint)
    assert (await http.post("/v1/score", json=sent)).status_code == 200


async def test_a_refused_pin_names_the_served_fingerprint_in_the_header(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    refused = await http.post("/v1/score", json=body(expected_fingerprint="feed"))
    assert refused.status_code == 409
    assert refused.headers["x-reward-fingerprint"] == scorer.info.fingerprint
    assert scorer.calls == []


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        pytest.param(Overloaded("full", retry_after=7), 429, True, id="overloaded"),
        pytest.param(DeadlineExceeded("passed"), 504, False, id="deadline"),
        pytest.param(CandidateTooLong("too long"), 422, False, id="too long"),
    ],
)
async def test_what_the_scorer_refuses_is_a_problem_document(
    http: httpx.AsyncClient,
    scorer: FakeScorer,
    error: RewardServerError,
    status: int,
    retryable: bool,
) -> None:
    scorer.error = error
    refused = await http.post("/v1/score", json=body())
    assert refused.status_code == status
    assert refused.headers.get("retry-after") == ("7" if status == 429 else None)
    assert refused.json()["retryable"] is retryable
    assert refused.json()["detail"] == str(error)


async def test_a_dead_device_turns_readiness_off_and_leaves_the_process_alive(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    assert (await http.get("/health/ready")).json() == {"status": "ready"}
    scorer.error = RuntimeError("the device is gone")
    assert (await http.post("/v1/score", json=body())).status_code == 503
    assert (await http.get("/health/ready")).status_code == 503
    assert (await http.get("/health/live")).status_code == 200
    assert 'reward_server_ready{model="default"} 0.0' in (await http.get("/metrics")).text


async def test_a_server_that_goes_down_is_not_ready_and_answers_what_it_has(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    app = create_app(config, scorer)
    scorer.gate.clear()
    async with (
        running(app) as transport,
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        waiting = asyncio.create_task(http.post("/v1/score", json=body()))
        await scorer.entered.wait()
        app.state.server.is_draining = True
        refused = await http.get("/health/ready")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert app.state.is_ready() is False
        assert (await http.get("/health/live")).status_code == 200
        scorer.gate.set()
        assert (await waiting).status_code == 200


async def test_a_server_that_has_stopped_has_closed_its_models(
    config: RewardServerConfig, scorer: FakeScorer, running: Running
) -> None:
    app = create_app(config, scorer)
    async with running(app):
        assert app.state.is_ready() is True
    assert scorer.is_open is False
    assert app.state.server.is_draining is True


async def test_a_model_shows_what_its_fingerprint_stands_for(
    http: httpx.AsyncClient, scorer: FakeScorer
) -> None:
    expected = scorer.info.model_dump(mode="json")
    assert (await http.get("/v1/models/default")).json() == expected
    assert (await http.get("/v1/models")).json() == {
        "models": [expected],
        "object": "list",
        "data": [{"id": "default", "object": "model", "created": 0, "owned_by": "medpref"}],
    }
    assert (await http.get("/v1/models/other")).json()["code"] == "unknown_model"


async def test_an_alias_leads_to_its_model_everywhere(client: Client, scorer: FakeScorer) -> None:
    async with client(models={"short": SHORT}, aliases={"production/v1": "default"}) as http:
        scored = (await http.post("/v1/score", json=body(model="production/v1"))).json()
        info = (await http.get("/v1/models/production/v1")).json()
        listed = (await http.get("/v1/models")).json()
    assert scored["fingerprint"] == scorer.info.fingerprint
    assert (info["name"], info["aliases"]) == ("default", ["production/v1"])
    assert [each["id"] for each in listed["data"]] == ["default", "production/v1", "short"]
    assert [each["aliases"] for each in listed["models"]] == [["production/v1"], []]


async def test_unknown_routes_and_methods_get_problem_documents(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/nowhere")).json()["code"] == "not_found"
    wrong_method = await http.get("/v1/score")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    assert wrong_method.headers["content-type"] == MEDIA_TYPE


async def test_a_bug_is_a_problem_document_named_counted_and_still_raised(
    config: RewardServerConfig,
    scorer: FakeScorer,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app(config, scorer)

    def find(name: str) -> None:
        raise AttributeError(f"{MARKER} of {name}")

    monkeypatch.setattr(app.state.server.registry, "find", find)
    headers = {"x-request-id": "trace-7"}
    async with running(app):
        with pytest.raises(AttributeError):
            await http_get(httpx.ASGITransport(app), "/v1/models/default", headers)
        quiet = httpx.ASGITransport(app, raise_app_exceptions=False)
        with structlog.testing.capture_logs(
            processors=[structlog.contextvars.merge_contextvars]
        ) as logs:
            answer = await http_get(quiet, "/v1/models/default", headers)
        metrics = (await http_get(quiet, "/metrics")).text
    problem = answer.json()
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "trace-7")
    assert (problem["code"], problem["request_id"]) == (RewardServerError.code, "trace-7")
    assert problem["detail"] == "AttributeError; see the log"
    assert [(entry["event"], entry["request_id"]) for entry in logs] == [
        ("request.refused", "trace-7")
    ]
    counted = 'reward_server_requests_total{route="/v1/models/{name:path}",status="500"} 2.0'
    assert counted in metrics.splitlines()


async def http_get(
    transport: httpx.ASGITransport, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers=headers)


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
        'reward_server_phase_seconds_count{phase="forward"} 1.0',
        'reward_server_ready{model="default"} 1.0',
    ]:
        assert line in text.splitlines()


# Access


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        pytest.param("POST", "/v1/score", None, 401, id="no key"),
        pytest.param("POST", "/v1/score", "unknown", 401, id="unknown key"),
        pytest.param("POST", "/v1/score", "operations", 403, id="wrong scope"),
        pytest.param("POST", "/v1/score", "scoring", 200, id="right scope"),
        pytest.param("GET", "/v1/models", None, 401, id="models are not open"),
        pytest.param("GET", "/v2/nowhere", None, 401, id="what is not there is not open"),
        pytest.param("DELETE", "/v1/admin/models/x", "scoring", 403, id="admin route"),
        pytest.param("DELETE", "/v1/admin/models/x", "operations", 404, id="admin scope"),
        pytest.param("GET", "/health/ready", None, 200, id="health is open"),
        pytest.param("GET", "/metrics", None, 200, id="metrics are open"),
        pytest.param("GET", "/openapi.json", None, 200, id="description is open"),
    ],
)
async def test_a_key_opens_what_its_scope_says(
    client: Client, keyring: Keyring, method: str, path: str, key: str | None, status: int
) -> None:
    headers = {} if key is None else {"x-api-key": key}
    async with client(keyring=keyring) as http:
        sent = body() if method == "POST" else None
        response = await http.request(method, path, json=sent, headers=headers)
    assert response.status_code == status
    if status in (401, 403):
        assert response.headers["content-type"] == MEDIA_TYPE
        assert response.json()["request_id"] == response.headers["x-request-id"]
    assert ("www-authenticate" in response.headers) is (status == 401)


async def test_what_never_reached_its_route_is_counted_under_it(
    client: Client, keyring: Keyring
) -> None:
    async with client(keyring=keyring) as http:
        await http.post("/v1/score", json=body())
        await http.post("/v1/score", content=b"x" * 5_000, headers={"x-api-key": "scoring"})
        text = (await http.get("/metrics")).text
    for status in (401, 413):
        assert f'requests_total{{route="/v1/score",status="{status}"}} 1.0' in text


async def test_a_used_up_quota_is_429_and_says_when_there_is_more(
    client: Client, keyring: Keyring, scorer: FakeScorer
) -> None:
    headers = {"authorization": "Bearer slow"}
    async with client(keyring=keyring, headers=headers) as http:
        answers = [await http.post("/v1/score", json=body()) for _ in range(3)]
        scored = len(scorer.calls)
        too_much = await http.post("/v1/score", json=body_with(candidates=["x" * 99]))
    assert [answer.status_code for answer in answers] == [200, 200, 429]  # 19 tokens each
    refused = answers[2]
    assert refused.json()["code"] == "quota_exceeded"
    assert 20 <= int(refused.headers["retry-after"]) <= 26  # 17 tokens at 40 a minute
    assert scored == 3, "the scorer is asked, since it alone can count tokens"
    assert (too_much.status_code, too_much.json()["code"]) == (422, "limit_exceeded")


async def test_a_request_that_fails_costs_no_quota(
    client: Client, keyring: Keyring, scorer: FakeScorer
) -> None:
    async with client(keyring=keyring, headers={"x-api-key": "slow"}) as http:
        scorer.error = Overloaded("full", retry_after=1)
        for _ in range(3):
            assert (await http.post("/v1/score", json=body())).json()["code"] == "overloaded"
        scorer.error = None
        assert (await http.post("/v1/score", json=body())).status_code == 200


# The description


async def test_operation_ids_are_stable_and_problems_documented(client: Client) -> None:
    async with client() as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    ids = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert ids == {
        "POST /v1/score": "score",
        "GET /v1/models": "list_models",
        "GET /v1/models/{name}": "get_model",
        "GET /health/live": "live",
        "GET /health/ready": "ready",
        "PUT /v1/admin/models/{name}": "serve_model",
        "DELETE /v1/admin/models/{name}": "remove_model",
        "PUT /v1/admin/aliases/{alias}": "set_alias",
        "DELETE /v1/admin/aliases/{alias}": "remove_alias",
    }
    documented = paths["/v1/score"]["post"]["responses"]
    statuses = "200 400 401 403 404 408 409 413 422 429 500 503 504"
    assert set(documented) == set(statuses.split())
    schema = documented["422"]["content"][MEDIA_TYPE]["schema"]
    assert schema == {"$ref": "#/components/schemas/Problem"}


async def test_the_wires_of_other_servers_are_there_unless_switched_off(client: Client) -> None:
    async with client(wires=True) as http:
        with_wires = (await http.get("/openapi.json")).json()["paths"]
    async with client() as http:
        native = (await http.get("/openapi.json")).json()["paths"]
        missing = await http.post("/score", json={})
    assert set(native) < set(with_wires)
    assert "/score" in with_wires
    assert missing.status_code == 404
