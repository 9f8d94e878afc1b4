"""Administration over models of rules, by its routes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.reward_server.asking import (
    LONG,
    MARKER,
    SHORT,
    Client,
    body,
)
from tests.reward_server.tiny import FakeScorer

pytestmark = pytest.mark.anyio


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
