"""The tiny policy, a trainer's view of it, and one real vLLM that serves it: once per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from policy.deploy import write_canaries
from policy.server import PolicyServer
from tests.policy.tiny import (
    RunningPolicy,
    TinyPolicy,
    TrainerView,
    make_tiny_policy,
    server_config,
)


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> TinyPolicy:
    return make_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def trainer(tiny_policy: TinyPolicy) -> TrainerView:
    """Has written the canaries of every adapter."""
    view = TrainerView(tiny_policy)
    for name, path in tiny_policy.adapters.items():
        write_canaries(path, view.canaries(name))
    return view


@pytest.fixture(scope="session")
def policy_server(
    tiny_policy: TinyPolicy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPolicy]:
    """Starting it takes half a minute; a test that loads adapters unloads them again."""
    config = server_config(tiny_policy.model, tmp_path_factory.mktemp("server") / "vllm.log")
    with PolicyServer(config) as server:
        yield RunningPolicy(server.url, tiny_policy.model, tiny_policy.adapters)
