"""Every route against its own OpenAPI description, with requests that schemathesis makes up.

The server is a real one on a socket: a tiny model, rules and an ensemble of both, and the wires of
other servers. The administration has a server of its own, so that what is made up there replaces
nothing that is tested elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from reward_server.server import bind, listen

pytestmark = pytest.mark.integration

MADE_UP = settings(max_examples=20, derandomize=True, deadline=None)
"""Random requests of one route, beside those that go through its parameters one by one."""

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
OWN_DEADLINE = 504
"""What a request is answered whose own deadline has passed: no fault of the server."""

RULES = {"kind": "rules", "rules": [{"rule": "length", "max_words": 9}]}
BOTH = {"kind": "ensemble", "members": ["default", "rules"]}


def described() -> Any:
    """The description of a light server, which is that of every other one."""
    light = create_app(RewardServerConfig.model_validate({"models": {"default": RULES}}))
    return schemathesis.openapi.from_dict(light.openapi(), config=SchemathesisConfig(seed=1))


DESCRIBED = described()
SCORING = DESCRIBED.exclude(tag="admin")
ADMINISTRATION = DESCRIBED.include(tag="admin")


@dataclass(frozen=True)
class Server:
    """A server on a thread of this process."""

    url: str
    session: requests.Session

    def check(self, case: schemathesis.Case[Any]) -> schemathesis.Response:
        """Sends a request and holds the answer against the description."""
        response = case.call(base_url=self.url, session=self.session)
        assert response.status_code < 500 or response.status_code == OWN_DEADLINE, response.text
        case.validate_response(response, checks=CHECKS)
        return response


@contextmanager
def serving(content: dict[str, Any]) -> Iterator[Server]:
    app = create_app(RewardServerConfig.model_validate(content))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    with bind("127.0.0.1", 0) as listener, requests.Session() as session:
        listen(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", session)
        finally:
            server.should_exit = True
            thread.join(timeout=60)


@pytest.fixture(scope="module")
def served(model_folder: Path) -> Iterator[Server]:
    model = {"model": str(model_folder), "dtype": "float32"}
    others = {"models": {"rules": RULES, "both": BOTH}, "aliases": {"alias": "both"}}
    with serving({**model, **others}) as server:
        yield server


@pytest.fixture(scope="module")
def administered() -> Iterator[Server]:
    with serving({"models": {"default": RULES, "rules": RULES, "both": BOTH}}) as server:
        yield server


@SCORING.parametrize()  # type: ignore[untyped-decorator]  # theirs
@MADE_UP
def test_an_answer_is_one_that_its_route_describes(
    case: schemathesis.Case[Any], served: Server
) -> None:
    served.check(case)


@ADMINISTRATION.parametrize()  # type: ignore[untyped-decorator]  # theirs
@MADE_UP
def test_an_answer_of_the_administration_is_one_that_its_route_describes(
    case: schemathesis.Case[Any], administered: Server
) -> None:
    administered.check(case)


def test_whatever_was_asked_the_servers_go_on(served: Server, administered: Server) -> None:
    for server in (served, administered):
        assert httpx.get(f"{server.url}/health/ready").status_code == 200


# What is made up is seldom scored, so here is a request of every route that is.

CHAT = [{"role": "user", "content": "nose?"}, {"role": "assistant", "content": "Rest."}]
GROUP = {"id": "q1", "messages": CHAT[:1], "candidates": ["Rest.", "Steam helps."]}
SENTENCES = {"name": "sentences", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]}
FEEDBACK = {"batch_prompt": ["q"], "batch_response": [], "batch_candidates": [["a", "b"]]}
PLAIN = [
    pytest.param("/v1/score", {"groups": [GROUP]}, id="native"),
    pytest.param("/v1/score", {"model": "alias", "groups": [GROUP]}, id="native ensemble"),
    pytest.param("/get_reward", {"query": ["nose? Rest."]}, id="OpenRLHF"),
    pytest.param("/classify", {"input": ["nose? Rest.", "Hm."]}, id="vLLM classify"),
    pytest.param("/classify", {"messages": CHAT}, id="vLLM classify a chat"),
    pytest.param("/pooling", {"input": "nose? Rest."}, id="vLLM pooling"),
    pytest.param("/score", {"text_1": "nose?", "text_2": ["Rest.", "Hm."]}, id="vLLM score"),
    pytest.param("/v1/rerank", {"query": "nose?", "documents": ["Rest.", "Hm."]}, id="rerank v1"),
    pytest.param("/v2/rerank", {"query": "nose?", "documents": ["Rest."]}, id="rerank v2"),
    pytest.param("/rerank", {"query": "nose?", "texts": ["Rest."]}, id="TEI rerank"),
    pytest.param("/predict", {"inputs": [["nose?", "Rest."]]}, id="TEI predict"),
    pytest.param("/v1/score/evaluation", {"model": "m", "messages": ["Hm."]}, id="LLaMA-Factory"),
    pytest.param("/slime", {"prompt": "nose?", "response": "Rest.", "label": None}, id="slime"),
    pytest.param("/v1/chat/completions", {"model": "default", "messages": CHAT}, id="NIM"),
    pytest.param("/v2/models/{name}/infer", {"inputs": [SENTENCES]}, id="KServe"),
    pytest.param("/get_feedback", msgspec.msgpack.encode(FEEDBACK), id="OAT"),
    pytest.param("/v1/embeddings", {"model": "default", "input": "Hm."}, id="SGLang embeddings"),
    pytest.param("/v1/classify", {"input": "Hm."}, id="SGLang classify"),
]


@pytest.mark.parametrize(("path", "body"), PLAIN)
def test_a_plain_request_is_answered_as_its_route_describes(
    served: Server, path: str, body: object
) -> None:
    operation = DESCRIBED[path]["POST"]
    parameters = {"name": "default"} if "{name}" in path else {}
    case = operation.Case(
        body=body,
        path_parameters=parameters,
        media_type=operation.get_request_payload_content_types()[0],
    )
    assert served.check(case).status_code == 200


def test_every_route_that_scores_has_a_plain_request() -> None:
    scoring = {
        path for path, operations in DESCRIBED.raw_schema["paths"].items() if "post" in operations
    }
    assert scoring == {each.values[0] for each in PLAIN}
