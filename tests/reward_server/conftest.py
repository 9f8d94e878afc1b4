"""Fixtures: a saved tiny model, a fake scorer, and an application served without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fastapi import FastAPI

from reward_server.access import Keyring
from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from reward_server.keyfile import Key, add_key, digest
from tests.reward_server.asking import Client
from tests.reward_server.tiny import FakeScorer, make_tokenizer, save_model


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """A tiny model is faster on one thread, and tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward_model")
    save_model(folder, make_tokenizer())
    return folder


@pytest.fixture
def scorer() -> FakeScorer:
    return FakeScorer()


@pytest.fixture
def config() -> RewardServerConfig:
    return RewardServerConfig(
        model="unused",
        wires=False,
        max_groups_per_request=3,
        max_candidates_per_group=3,
        max_body_bytes=4_000,
    )


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[httpx.ASGITransport]:
    async with app.router.lifespan_context(app):
        yield httpx.ASGITransport(app)


Running = Callable[[FastAPI], AbstractAsyncContextManager[httpx.ASGITransport]]


@pytest.fixture
def running() -> Running:
    """Runs an application's lifespan around requests to it, without a socket."""
    return _running


@pytest.fixture
async def http(config: RewardServerConfig, scorer: FakeScorer) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        _running(create_app(config, scorer)) as transport,
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
