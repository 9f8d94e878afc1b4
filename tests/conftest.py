"""Shared by all tests: no hub, no cache of the person who runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.policy.tiny import RunningPolicy, TinyPolicy

# A busy machine is no failure: how long an example takes says nothing. The same examples every
# time, so that a change is blamed for its own faults only; to look for new ones:
#   pytest --hypothesis-profile=thorough
settings.register_profile("medpref", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("medpref")

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> TinyPolicy:
    from tests.policy.tiny import make_tiny_policy

    return make_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def policy_server(
    tiny_policy: TinyPolicy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPolicy]:
    """One real vLLM for the whole suite: starting it takes half a minute.

    A test that loads adapters unloads them again.
    """
    from policy.server import PolicyServer
    from tests.policy.tiny import RunningPolicy, server_config

    config = server_config(tiny_policy.model, tmp_path_factory.mktemp("server") / "vllm.log")
    with PolicyServer(config) as server:
        yield RunningPolicy(server.url, tiny_policy.model, tiny_policy.adapters)


@pytest.fixture
def chat_endpoint(policy_server: RunningPolicy) -> str:
    """An OpenAI-compatible chat endpoint."""
    return f"{policy_server.url}/v1"
