"""The native routes over a fake scorer, and administration over models of rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from reward_server import calibration, canary
from reward_server.access import Keyring
from reward_server.app import create_app
from reward_server.audit_record import AuditRecord
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    CandidateTooLong,
    DeadlineExceeded,
    Overloaded,
    RewardServerError,
    ServerStartError,
)
from reward_server.keyfile import Key, add_key, digest
from reward_server.problems import MEDIA_TYPE
from reward_server.protocol import CandidateResult, GroupResult
from tests.reward_server.conftest import Running
from tests.reward_server.tiny import FakeScorer, group

pytestmark = pytest.mark.anyio

GROUP: dict[str, Any] = {
    "id": "q1",
    "messages": [{"role": "user", "content": "What helps a stuffy nose?"}],
    "candidates": ["Rest.", "Steam helps."],
}
SHORT = {"kind": "rules", "rules": [{"rule": "length", "max_words": 1}]}
LONG = {"kind": "rules", "rules": [{"rule": "length", "min_words": 2}]}
MARKER = "zebrawort"
"""Stands in conversations, and so must not stand in logs, problems or metrics."""

Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def body(**fields: Any) -> dict[str, Any]:
    return {"groups": [GROUP], **fields}


def body_with(**fields: Any) -> dict[str, Any]:
    return {"groups": [{**GROUP, **fields}]}


def body_without(field: str) -> dict[str, Any]:
    return {"groups": [{name: value for name, value in GROUP.items() if name != field}]}


@pytest.fixture
def client(config: RewardServerConfig, scorer: FakeScorer, running: Running) -> Client:
    """A client of an application with further settings; its default model is ``scorer``."""

    @asynccontextmanager
    async def serve(
        *, keyring: Keyring | None = None, headers: dict[str, str] | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        fields = config.model_dump(exclude_unset=True) | settings
        app = create_app(RewardServerConfig.model_validate(fields), scorer, keyring=keyring)
        async with (
            running(app) as transport,
            httpx.AsyncClient(
                transport=transport, base_url="http://test", headers=headers
            ) as client,
        ):
            yield client

    return serve


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
    sent = body(on_overflow="truncate", lane="bulk", deadline_ms=60_000)
    assert (await http.post("/v1/score", json=sent)).status_code == 200
    ((groups, call),) = scorer.calls
    assert groups == ["q1"]
    assert (call.on_overflow, call.lane, call.uses_cache) == ("truncate", "bulk", True)
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


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """Keys ``scoring``, ``operations`` (admin alone) and ``slow`` (40 tokens a minute)."""
    path = tmp_path / "keys.json"
    keys: dict[str, dict[str, Any]] = {
        "scoring": {"scopes": ["score"]},
        "operations": {"scopes": ["admin"]},
        "slow": {"scopes": ["score"], "tokens_per_minute": 40},
    }
    for name, fields in keys.items():
        key = {"name": name, "sha256": digest(name), "created": "2026-01-01", **fields}
        add_key(path, Key.model_validate(key))
    return Keyring.load(path)


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


# Administration


async def test_a_model_is_swapped_under_its_name(client: Client) -> None:
    async with client(models={"length": SHORT}) as http:
        before = (await http.post("/v1/score", json=body(model="length"))).json()
        swapped = await http.put("/v1/admin/models/length", json=LONG)
        after = (await http.post("/v1/score", json=body(model="length"))).json()
    assert [each["reward"] for each in before["groups"][0]["results"]] == [1.0, 0.0]
    assert [each["reward"] for each in after["groups"][0]["results"]] == [0.0, 1.0]
    assert swapped.status_code == 200
    assert swapped.json()["fingerprint"] == after["fingerprint"] != before["fingerprint"]


async def test_a_model_is_added_and_removed_again(client: Client) -> None:
    async with client() as http:
        added = await http.put("/v1/admin/models/team/short", json=SHORT)
        scored = await http.post("/v1/score", json=body(model="team/short"))
        removed = await http.delete("/v1/admin/models/team/short")
        gone = await http.post("/v1/score", json=body(model="team/short"))
    statuses = [each.status_code for each in (added, scored, removed, gone)]
    assert statuses == [200, 200, 204, 404]
    assert removed.content == b""


async def test_a_request_under_way_ends_on_the_model_that_it_began_on(
    client: Client, scorer: FakeScorer
) -> None:
    scorer.gate.clear()
    async with client() as http:
        waiting = asyncio.create_task(http.post("/v1/score", json=body()))
        await scorer.entered.wait()
        swapped = (await http.put("/v1/admin/models/default", json=SHORT)).json()
        new = (await http.post("/v1/score", json=body())).json()
        assert scorer.is_open
        scorer.gate.set()
        old = (await waiting).json()
    assert old["fingerprint"] == scorer.info.fingerprint
    assert new["fingerprint"] == swapped["fingerprint"]
    assert not scorer.is_open


REFUSED_MODELS = [
    pytest.param(
        {"kind": "sequence_classification", "model": "no/such/model"},
        422,
        "model_not_loaded",
        "neither a folder nor a model that the hub gives",
        id="no such model",
    ),
    pytest.param(
        {"kind": "sequence_classification", "model": "x" * 3_000},
        422,
        "model_not_loaded",
        "neither a folder nor a model that the hub gives",
        id="no name of a file",
    ),
    pytest.param(
        {"kind": "sequence_classification", "model": "m", "trust_remote_code": True},
        403,
        "forbidden",
        "trust_remote_code: only for a server that was started with it",
        id="remote code",
    ),
    pytest.param(
        {"kind": "ensemble", "members": ["short", "other"]},
        422,
        "model_not_loaded",
        "members: other of ensemble default are not served",
        id="unknown member",
    ),
    pytest.param(
        {"kind": "ensemble", "members": ["short", "default"]},
        422,
        "model_not_loaded",
        "members: 'default' is made of 'default' itself",
        id="made of itself",
    ),
    pytest.param(
        {"kind": f"{MARKER}"}, 422, "invalid_request", "Input should be one of", id="unknown kind"
    ),
    pytest.param({"model": "m"}, 422, "invalid_request", "discriminator 'kind'", id="no kind"),
]


@pytest.mark.parametrize(("spec", "status", "code", "detail"), REFUSED_MODELS)
async def test_a_model_that_cannot_be_served_leaves_what_was_served(
    client: Client, scorer: FakeScorer, spec: dict[str, Any], status: int, code: str, detail: str
) -> None:
    async with client(models={"short": SHORT}) as http:
        refused = await http.put("/v1/admin/models/default", json=spec)
        scored = await http.post("/v1/score", json=body())
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert detail in refused.json()["detail"]
    assert MARKER not in refused.text
    assert scored.json()["fingerprint"] == scorer.info.fingerprint


async def test_remote_code_may_be_asked_for_where_the_server_was_started_with_it(
    client: Client,
) -> None:
    spec = {"kind": "sequence_classification", "model": "no/such/model", "trust_remote_code": True}
    async with client(trust_remote_code=True) as http:
        refused = await http.put("/v1/admin/models/new", json=spec)
    assert refused.json()["code"] == "model_not_loaded"


async def test_an_alias_is_set_moved_and_removed(client: Client) -> None:
    async with client(models={"short": SHORT}) as http:
        path = "/v1/admin/aliases/production"
        set_to = (await http.put(path, json={"model": "default"})).json()
        moved_to = (await http.put(path, json={"model": "short"})).json()
        scored = (await http.post("/v1/score", json=body(model="production"))).json()
        removed = await http.delete(path)
        gone = await http.post("/v1/score", json=body(model="production"))
    assert (set_to["name"], moved_to["name"]) == ("default", "short")
    assert scored["fingerprint"] == moved_to["fingerprint"]
    assert (removed.status_code, gone.status_code) == (204, 404)


IN_USE = (409, "model_in_use")
UNKNOWN = (404, "unknown_model")
INVALID = (422, "invalid_request")


@pytest.mark.parametrize(
    ("call", "sent", "problem", "detail"),
    [
        ("DELETE models/short", None, IN_USE, "(model 'both')"),
        ("DELETE models/default", None, IN_USE, "(alias 'production', model 'both')"),
        ("DELETE models/production", None, IN_USE, "'production' cannot be removed"),
        ("DELETE models/other", None, UNKNOWN, "'other' is not served"),
        ("PUT models/production", SHORT, IN_USE, "is an alias of 'default'"),
        ("PUT models/", SHORT, INVALID, "name: String should have at least 1"),
        ("PUT aliases/short", {"model": "default"}, IN_USE, "a model has this name"),
        ("PUT aliases/new", {"model": "other"}, UNKNOWN, "'other' is not served"),
        ("PUT aliases/new", {"model": "production"}, UNKNOWN, "'production' is not served"),
        ("PUT aliases/new", {}, INVALID, "model: Field required"),
        ("PUT aliases/", {"model": "default"}, INVALID, "alias: String should have at least 1"),
        ("DELETE aliases/other", None, UNKNOWN, "alias: 'other' is none"),
    ],
)
async def test_what_others_need_stays(
    client: Client,
    call: str,
    sent: dict[str, Any] | None,
    problem: tuple[int, str],
    detail: str,
) -> None:
    method, path = call.split()
    both = {"kind": "ensemble", "members": ["default", "short"]}
    settings = {"models": {"short": SHORT, "both": both}, "aliases": {"production": "default"}}
    async with client(**settings) as http:
        before = (await http.get("/v1/models")).json()
        refused = await http.request(method, f"/v1/admin/{path}", json=sent)
        assert (await http.get("/v1/models")).json() == before
    assert (refused.status_code, refused.json()["code"]) == problem
    assert detail in refused.json()["detail"]


async def test_the_only_model_stays(http: httpx.AsyncClient) -> None:
    refused = await http.delete("/v1/admin/models/default")
    assert refused.status_code == 409
    assert "its only model" in refused.json()["detail"]


async def test_an_ensemble_is_made_anew_when_a_member_is_swapped(client: Client) -> None:
    both = {"kind": "ensemble", "members": ["default", "length"]}
    async with client(models={"length": SHORT, "both": both}) as http:
        before = (await http.post("/v1/score", json=body(model="both"))).json()
        swapped = (await http.put("/v1/admin/models/length", json=LONG)).json()
        after = (await http.post("/v1/score", json=body(model="both"))).json()
        info = (await http.get("/v1/models/both")).json()
    assert [each["reward"] for each in before["groups"][0]["results"]] == [3.0, 6.0]
    assert [each["reward"] for each in after["groups"][0]["results"]] == [2.5, 6.5]
    assert after["groups"][0]["results"][1]["parts"] == {"default": 12.0, "length": 1.0}
    assert info["fingerprint"] == after["fingerprint"] != before["fingerprint"]
    assert info["identity"]["members"]["length"] == swapped["fingerprint"]


# Calibration, drift, canaries


def save_calibration(path: Path, fingerprint: str) -> calibration.Calibration:
    made = calibration.fit(
        [0.0, 10.0], [1, 5], fingerprint=fingerprint, name="two answers", sha256="0" * 64
    )
    made.save(path)
    return made


def save_canary(path: Path, fingerprint: str, *, rewards: tuple[float, float]) -> None:
    groups = [group("canary", "Rest.", "Steam helps.")]
    results = [
        GroupResult(
            id="canary", results=tuple(CandidateResult(reward=r, tokens=1) for r in rewards)
        )
    ]
    canary.make(groups, results, fingerprint).save(path)


async def test_a_calibrated_reward_stands_beside_the_raw_one(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    made = save_calibration(path, scorer.info.fingerprint)
    async with client(calibration=path) as http:
        scored = (await http.post("/v1/score", json=body())).json()
        info = (await http.get("/v1/models/default")).json()
    low, high = scored["groups"][0]["results"]
    assert (low["reward"], high["reward"]) == (5.0, 12.0)
    assert low["calibrated"]["artefact"] == info["calibration"] == made.id
    assert (low["calibrated"]["z_score"], low["calibrated"]["percentile"]) == (0.0, 50.0)
    assert low["calibrated"]["win_probability"] == pytest.approx(0.5)
    assert high["calibrated"]["percentile"] == 100.0


async def test_drift_is_shown_once_there_is_enough_to_tell_from(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    save_calibration(path, scorer.info.fingerprint)
    async with client(
        calibration=path, max_candidates_per_group=300, max_body_bytes=100_000
    ) as http:
        before = (await http.get("/metrics")).text
        await http.post("/v1/score", json=body_with(candidates=["x" * 30] * 300))
        after = (await http.get("/metrics")).text
    assert 'reward_server_drift_reward_psi{model="default"}' not in before
    assert 'reward_server_drift_reference_length_slope{model="default"} 2.5' in before
    assert 'reward_server_drift_reward_ks{model="default"} 1.0' in after
    assert 'reward_server_drift_reward_psi{model="default"}' in after


async def test_canaries_are_looked_at_and_forgotten_with_their_model(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "canary.json"
    save_canary(path, scorer.info.fingerprint, rewards=(5.0, 11.5))
    async with client(canary=path) as http:
        await scorer.entered.wait()  # the first look comes at once
        await http.post("/v1/score", json=body())  # and has ended when a later request has
        looked = (await http.get("/metrics")).text
        await http.put("/v1/admin/models/default", json=SHORT)
        later = (await http.get("/metrics")).text
    (_, call), _ = scorer.calls
    assert (call.lane, call.uses_cache) == ("bulk", False)
    assert 'reward_server_canary_max_abs_diff{model="default"} 0.5' in looked
    assert 'reward_server_canary_failed{model="default"} 0.0' in looked
    assert "reward_server_canary_max_abs_diff{" not in later
    assert "reward_server_canary_failed{" not in later


@pytest.mark.parametrize("kind", ["calibration", "canary"])
async def test_an_artefact_of_another_model_is_refused_at_the_start(
    config: RewardServerConfig, scorer: FakeScorer, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "artefact.json"
    if kind == "calibration":
        save_calibration(path, "another")
    else:
        save_canary(path, "another", rewards=(5.0, 12.0))
    with pytest.raises(ServerStartError, match=f"{kind}: made for the reward model another"):
        create_app(config.model_copy(update={kind: path}), scorer)


# Audit and logs


def records(path: Path) -> list[AuditRecord]:
    return [AuditRecord.model_validate_json(line) for line in path.read_text().splitlines()]


async def test_every_scoring_request_leaves_a_line(
    client: Client, keyring: Keyring, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    sent = [
        body(),
        body(model="production"),
        body(model="other"),
        body(expected_fingerprint="feed"),
    ]
    settings = {"audit": path, "aliases": {"production": "default"}}
    async with client(keyring=keyring, headers={"x-api-key": "scoring"}, **settings) as http:
        answers = [await http.post("/v1/score", json=each) for each in sent]
        await http.post("/v1/score", json={})
        await http.get("/v1/models")
    lines = records(path)
    assert [line.request_id for line in lines] == [each.headers["x-request-id"] for each in answers]
    assert [line.status for line in lines] == [200, 200, 404, 409]
    assert [line.code for line in lines] == [None, None, "unknown_model", "fingerprint_mismatch"]
    assert [line.model for line in lines] == ["default", "default", "other", "default"]
    served = scorer.info.fingerprint
    assert [line.fingerprint for line in lines] == [served, served, None, served]
    assert {line.caller for line in lines} == {"scoring"}
    assert {line.route for line in lines} == {"/v1/score"}
    assert [item.reward for item in lines[0].groups[0].candidates] == [5.0, 12.0]


@pytest.mark.parametrize("include_text", [False, True])
async def test_the_audit_log_holds_text_only_if_told_to(
    client: Client, tmp_path: Path, include_text: bool
) -> None:
    path = tmp_path / "audit.jsonl"
    async with client(audit=path, audit_text=include_text) as http:
        await http.post("/v1/score", json=body_with(candidates=[f"{MARKER} tea"]))
    assert (MARKER in path.read_text()) is include_text


async def test_a_request_that_must_be_logged_and_cannot_gets_no_rewards(
    client: Client, tmp_path: Path
) -> None:
    async with client(audit=tmp_path / "audit.jsonl", audit_required=True) as http:
        assert (await http.post("/v1/score", json=body())).status_code == 200
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()
        refused = await http.post("/v1/score", json=body())
        metrics = (await http.get("/metrics")).text
    assert (refused.status_code, refused.json()["code"]) == (503, "audit_failed")
    assert "the audit log, which is required here, cannot be written" in refused.json()["detail"]
    assert "groups" not in refused.json()
    assert "reward_server_audit_lost 1.0" in metrics


async def test_an_audit_file_that_cannot_be_written_is_refused_at_the_start(
    config: RewardServerConfig, scorer: FakeScorer, tmp_path: Path
) -> None:
    with pytest.raises(ServerStartError, match=r"audit: .* cannot be written to"):
        create_app(config.model_copy(update={"audit": tmp_path / "no" / "audit.jsonl"}), scorer)


MARKED = {"role": "user", "content": f"Does {MARKER} help?"}
MARKED_BODIES: list[Any] = [
    body_with(messages=[MARKED], candidates=[f"{MARKER}."]),
    body_with(messages=[MARKED], reference=MARKER),
    body_with(messages=MARKER),
    body_with(messages=[{"role": MARKER, "content": MARKER}]),
    body_with(messages=[MARKED, {"role": "assistant", "content": MARKER}]),
    body_with(messages=[MARKED], candidates=[MARKER] * 4),
    body_with(messages=[MARKED], candidates=[[MARKER]]),
    {"groups": [{**GROUP, "candidates": [MARKER]}] * 4},
    body_with(candidates=[MARKER * 1_000]),
    {**body_with(candidates=[MARKER]), "expected_fingerprint": "feed"},
    {**body_with(candidates=[MARKER]), "on_overflow": MARKER},
    MARKER,
]


@pytest.mark.parametrize("model", ["default", "pattern", "both"])
async def test_no_log_problem_or_metric_holds_text_of_a_conversation(
    client: Client, scorer: FakeScorer, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    models = {
        "pattern": {"kind": "rules", "rules": [{"rule": "answer_key"}]},
        "both": {"kind": "ensemble", "members": ["default", "pattern"]},
    }
    async with client(models=models) as http:
        answers = [
            await http.post(
                "/v1/score", json=sent | {"model": model} if type(sent) is dict else sent
            )
            for sent in MARKED_BODIES
        ]
        broken = f'{{"groups": "{MARKER}'.encode()
        answers.append(
            await http.post(
                "/v1/score", content=broken, headers={"content-type": "application/json"}
            )
        )
        scorer.error = RuntimeError(MARKER)
        answers.append(await http.post("/v1/score", json=MARKED_BODIES[0]))
        answers.append(await http.get("/metrics"))
    printed = "".join(capfd.readouterr())
    assert "request.scored" in printed
    assert "request.refused" in printed
    assert MARKER not in printed
    assert [answer.status_code for answer in answers if MARKER in answer.text] == []
    assert {answer.status_code for answer in answers} >= {200, 409, 413, 422, 503}


async def test_a_scored_request_is_logged_with_its_size_and_time(
    http: httpx.AsyncClient,
) -> None:
    with structlog.testing.capture_logs() as logs:
        await http.post("/v1/score", json=body())
        await http.post("/v1/score", json=body_with(messages="stuffy"))
    scored, refused = logs
    assert (scored["event"], refused["event"]) == ("request.scored", "request.refused")
    assert (scored["caller"], scored["groups"], scored["candidates"]) == ("anonymous", 1, 2)
    assert (scored["tokens"], scored["forward"]) == (19, 1.0)
    assert (refused["status"], refused["code"]) == (422, "invalid_request")


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
    statuses = "200 400 401 403 404 409 413 422 429 500 503 504"
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
