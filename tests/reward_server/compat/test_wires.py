"""What holds on every wire: failures are errors, refusals are declared, and nothing crashes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.compat import ROUTERS
from reward_server.compat.dialect import OpenAIRoute
from reward_server.errors import (
    DeadlineExceeded,
    DeviceFailed,
    Draining,
    Forbidden,
    LimitExceeded,
    Overloaded,
    QuotaExceeded,
    RenderingFailed,
    RewardServerError,
    Unauthorized,
)
from tests.reward_server.compat.fake import FakeScoring, make_app

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "poison"}]


@dataclass(frozen=True)
class Wire:
    path: str
    body: dict[str, Any]
    """Whose only input has no reward."""

    content_type: str = "application/json"
    route: str = ""

    @property
    def declared_as(self) -> str:
        return self.route or self.path

    async def ask(self, client: httpx.AsyncClient, body: object) -> httpx.Response:
        if self.path == "/get_feedback":
            return await client.post(self.path, content=msgspec.msgpack.encode(body))
        headers = {"content-type": self.content_type}
        return await client.post(self.path, content=json.dumps(body), headers=headers)


WIRES = [
    Wire("/get_reward", {"query": ["poison"]}),
    Wire("/classify", {"input": "poison", "use_activation": False}),
    Wire("/classify", {"messages": CHAT, "truncate_prompt_tokens": -1}),
    Wire("/pooling", {"input": ["poison"], "encoding_format": "base64"}),
    Wire("/score", {"text_1": "q", "text_2": ["poison"]}),
    Wire("/rerank", {"query": "q", "documents": ["poison"], "top_n": 1}),
    Wire("/rerank", {"query": "q", "texts": ["poison"], "raw_scores": True}),
    Wire("/v1/rerank", {"query": "q", "documents": ["poison"]}),
    Wire("/v2/rerank", {"query": "q", "documents": "poison"}),
    Wire("/predict", {"inputs": [["poison"], ["q", "a"]]}),
    Wire("/v1/score/evaluation", {"model": "m", "messages": ["poison"], "max_length": 64}),
    Wire("/slime", {"prompt": "q", "response": "poison", "label": None}),
    Wire("/v1/chat/completions", {"model": "default", "messages": CHAT, "stream": False}),
    Wire(
        "/v2/models/default/infer",
        {
            "inputs": [
                {"name": "sentences", "shape": [1, 1], "datatype": "BYTES", "data": ["poison"]}
            ]
        },
        route="/v2/models/{name}/infer",
    ),
    Wire("/get_feedback", {"batch_prompt": ["q"], "batch_response": ["poison"]}),
    Wire("/get_feedback", {"batch_prompt": ["q"], "batch_candidates": [["a", "poison"]]}),
    Wire("/v1/embeddings", {"model": "default", "input": "poison", "encoding_format": "base64"}),
    Wire("/v1/classify", {"model": "default", "input": ["poison"]}),
]
every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: f"{wire.path} {wire.body}")


def answers(
    app: FastAPI, wire: Wire, body: object, *, raises: RewardServerError | None = None
) -> httpx.Response:
    app.state.scoring_for = lambda request: FakeScoring(raises)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await wire.ask(client, body)

    return anyio.run(ask)


def declared(app: FastAPI, wire: Wire, response: httpx.Response) -> bool:
    """Whether the status, with its media type, is in the description of the interface."""
    documented = app.openapi()["paths"][wire.declared_as]["post"]["responses"]
    media_type = response.headers["content-type"].partition(";")[0]
    return media_type in documented.get(str(response.status_code), {}).get("content", {})


@every_wire
def test_an_input_without_a_reward_is_an_error_and_never_a_number(
    wires_app: FastAPI, wire: Wire
) -> None:
    response = answers(wires_app, wire, wire.body)
    assert response.status_code in (424, 500)
    assert "non_finite_reward: the model gave nan" in response.text
    assert declared(wires_app, wire, response)


@every_wire
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthorized("key: none"), 401),
        (Forbidden("key: not for this"), 403),
        (Overloaded("full", retry_after=3), 429),
        (QuotaExceeded("used up", retry_after=60), 429),
        (DeviceFailed("died", retry_after=5), 503),
        (Draining("going down", retry_after=1), 503),
        (DeadlineExceeded("late"), 504),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_keep_their_status_and_say_when_to_come_back(
    wires_app: FastAPI, wire: Wire, error: RewardServerError, status: int
) -> None:
    response = answers(wires_app, wire, wire.body, raises=error)
    assert response.status_code == status
    assert str(error) in response.text
    expected = None if error.retry_after is None else str(error.retry_after)
    assert response.headers.get("retry-after") == expected
    assert declared(wires_app, wire, response)


@every_wire
@pytest.mark.parametrize("error", [LimitExceeded("too many"), RenderingFailed("no system turns")])
def test_what_is_wrong_with_a_request_is_400_or_422(
    wires_app: FastAPI, wire: Wire, error: RewardServerError
) -> None:
    response = answers(wires_app, wire, wire.body, raises=error)
    assert response.status_code in (400, 422)
    assert declared(wires_app, wire, response)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "default", "objectives", "rules", "\ud800", "x" * 70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Wire, object]:
    """A body of some wire with one of its values, or all of it, replaced or gone."""
    wire = draw(st.sampled_from(WIRES))
    body = json.loads(json.dumps(wire.body).replace("poison", "sound"))
    places = list(_places(body))
    hold, key = draw(st.sampled_from([*places, (None, None)]))
    if hold is None:
        return wire, draw(values)
    if isinstance(hold, dict) and draw(st.booleans()):
        del hold[key]
    else:
        hold[key] = draw(_like(hold[key]) | values)
    return wire, body


def _like(old: Any) -> st.SearchStrategy[Any]:
    if isinstance(old, bool):
        return st.booleans()
    if isinstance(old, int):
        return st.integers(-3, 80)
    if isinstance(old, str):
        return st.text(max_size=70)
    return st.lists(st.sampled_from(old), max_size=4) if isinstance(old, list) else values


def _places(body: Any) -> Any:
    inside = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in list(inside):
        yield body, key
        if isinstance(value, dict | list):
            yield from _places(value)


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_no_body_makes_a_wire_crash_or_answer_what_is_not_declared(
    wires_app: FastAPI, case: tuple[Wire, object]
) -> None:
    wire, body = case
    try:
        response = answers(wires_app, wire, body)
    except (OverflowError, UnicodeEncodeError):
        assert wire.path == "/get_feedback"  # MessagePack cannot say it, so no client can
        return
    assert response.status_code < 500, (wire, body, response.text)
    assert declared(wires_app, wire, response), (wire, body, response.status_code)


def test_every_route_has_a_name_of_its_own() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    names = [route.name for route in routes if isinstance(route, APIRoute)]
    assert len(names) == len(set(names)) == len(routes)


def test_no_two_wires_share_a_path() -> None:
    paths = [
        (route.path, *sorted(route.methods))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
    ]
    assert len(paths) == len(set(paths))


def test_no_wire_promises_the_422_of_the_framework(wires_app: FastAPI) -> None:
    assert "HTTPValidationError" not in wires_app.openapi()["components"]["schemas"]


def test_what_is_not_about_the_body_is_left_to_the_application() -> None:
    app = make_app(FakeScoring(), routers=[])

    async def teapot() -> None:
        raise HTTPException(418)

    app.router.routes.append(OpenAIRoute("/classify", teapot, methods=["POST"]))
    response = answers(app, WIRES[1], {})
    assert response.status_code == 418
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("secret", ["Mrs Miller has a fever"])
def test_a_refusal_never_quotes_the_body(wires_app: FastAPI, secret: str) -> None:
    for path, body in (
        ("/classify", {"input": {"a": secret}}),
        ("/classify", {"messages": [{"role": secret, "content": secret}]}),
        ("/classify", {"input": "a", "truncation_side": secret, "padding": secret}),
        ("/get_reward", {"query": secret}),
        ("/predict", {"inputs": [[secret, secret, secret]]}),
        ("/v2/models/default/infer", {"inputs": [{"name": secret}]}),
        ("/v1/score/evaluation", {"messages": [{"a": secret}]}),
        ("/get_feedback", {"batch_prompt": {"a": secret}}),
    ):
        response = answers(wires_app, Wire(path, {}), body)
        assert response.status_code in (400, 422)
        assert "Miller" not in response.text, path
