"""How a run comes by its reward server: what it starts one with, and what it shows to another."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import pytest

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from foundation.settings import SettingsError, load_settings
from loop.align import align, preflight, reason
from loop.cluster import reward_command
from loop.config import Recipe, RewardConfig
from loop.folder import RunFolder, open_run_folder
from loop.services import reward_client
from medpref.commands import align as command
from medpref.commands import keys
from policy.client import BASE
from reward_server.access import check_binding
from reward_server.app import create_app
from reward_server.client import AsyncRewardClient
from reward_server.config import RewardServerConfig
from reward_server.errors import Unauthorized
from tests.loop.fakes import FakePolicy
from tests.loop.runs import MINI
from tests.reward_server.tiny import FakeScorer

VARIABLE = "MEDPREF_TEST_REWARD_KEY"
URL = "http://reward"
KEYED = (f"reward.url={URL}", f"reward.api_key_env={VARIABLE}")

Serving = Callable[[], AbstractAsyncContextManager[FakeScorer]]


def recipe(*overrides: str) -> Recipe:
    return load_settings(Recipe, MINI, overrides)


def started_with(model: str) -> RewardServerConfig:
    """What the server makes of the command that the run starts it with."""
    _, flag, module, *arguments = reward_command(model, RewardConfig(model=model), 8100)
    assert (flag, module) == ("-m", "reward_server")
    parser = Parser(module, "")
    add_settings(parser, RewardServerConfig)
    return read_settings(RewardServerConfig, parser.parse_args(arguments))


@pytest.mark.parametrize("model", ["/models/reward", "./reward", "runs/mini-1/reward_model"])
def test_a_reward_model_from_a_folder_is_served_as_it_is(model: str) -> None:
    assert not started_with(model).allow_floating_revision


def test_a_reward_model_from_the_hub_needs_no_commit_since_the_run_keeps_its_fingerprint() -> None:
    assert started_with("some/reward-model").allow_floating_revision


def test_the_server_that_a_run_starts_needs_no_keys() -> None:
    config = started_with("/models/reward")
    assert config.keys is None
    check_binding(config.host, has_keys=False)


def test_a_key_without_the_server_that_it_opens_is_refused() -> None:
    with pytest.raises(SettingsError, match="reward: api_key_env needs url"):
        recipe(f"reward.api_key_env={VARIABLE}")


@pytest.mark.parametrize("content", [None, "", " \n"], ids=["missing", "empty", "blank"])
def test_a_key_that_is_not_there_ends_a_run_before_it_begins(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if content is not None:
        monkeypatch.setenv(VARIABLE, content)
    path = tmp_path / "run"
    overrides = [part for override in KEYED for part in ("--set", override)]
    with pytest.raises(UserError, match=f"^reward.api_key_env: '{VARIABLE}' is not set; .*$"):
        command.main([str(MINI), "--run-dir", str(path), *overrides])
    assert not path.exists()


def test_a_plan_can_be_seen_without_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    overrides = [part for override in KEYED for part in ("--set", override)]
    assert command.main([str(MINI), "--dry-run", *overrides]) == 0
    assert URL in capsys.readouterr().out


def test_the_line_break_behind_a_key_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "s3cret\n")
    assert reward_client(recipe(*KEYED), URL).options.api_key == "s3cret"


def test_a_run_without_a_key_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "s3cret")
    assert reward_client(recipe(), URL).options.api_key is None


class FakePolicyServer(FakePolicy):
    """What a client of the policy server gives, from memory."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Has nothing to close."""

    async def versions(self) -> tuple[str, ...]:
        return (BASE,)


class FakeCluster:
    """A cluster with nothing to start: the servers run, and without pairs nobody trains."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Has nothing to stop."""

    def trainer(self) -> None:
        """Is asked for, and not for anything."""


@pytest.fixture
def secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The key of the reward server, where the recipe says that it is."""
    keys.main(["add", str(tmp_path / "keys.json"), "--name", "loop"])
    made = capsys.readouterr().out.strip()
    monkeypatch.setenv(VARIABLE, made)
    return made


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """A reward server with keys, which every reward client of the loop reaches; a fake policy."""

    @asynccontextmanager
    async def served() -> AsyncIterator[FakeScorer]:
        scorer = FakeScorer()
        app = create_app(
            RewardServerConfig(model="unused", keys=tmp_path / "keys.json"), scorer=scorer
        )
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            client = partial(AsyncRewardClient, transport=transport)
            monkeypatch.setattr("loop.services.AsyncRewardClient", client)
            yield scorer

    def policy(*_: object, **__: object) -> FakePolicyServer:
        return FakePolicyServer()

    monkeypatch.setattr("loop.services.AsyncPolicyClient", policy)
    monkeypatch.setattr("loop.align.AsyncPolicyClient", policy)
    monkeypatch.setattr("loop.align.Cluster", lambda _: FakeCluster())
    return served


@pytest.fixture
def keyed(tmp_path: Path) -> Recipe:
    """A recipe of servers that run already."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    return recipe(f"policy.model={base}", "policy.url=http://policy", *KEYED)


def test_a_run_opens_a_reward_server_with_its_key_and_writes_the_key_nowhere(
    keyed: Recipe,
    secret: str,
    serving: Serving,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    told = io.StringIO()

    async def play() -> tuple[RunFolder, FakeScorer]:
        async with serving() as scorer:
            world = await preflight(keyed)
            folder = open_run_folder(tmp_path / "run", keyed, resume=False)
            with Reporter(stream=told) as reporter:
                await align(keyed, world, folder, reporter)
            return folder, scorer

    folder, scorer = asyncio.run(play())
    assert json.loads(folder.summary.read_text())["status"] == "completed"
    assert len(scorer.calls) == 3 * 12  # the base's held-out questions and two rounds
    assert all(call.lane == "interactive" for _, call in scorer.calls)
    written = [path for path in folder.path.rglob("*") if path.is_file()]
    assert {folder.config, folder.summary, folder.events, folder.report, folder.ledger} <= {
        *written
    }
    for path in written:
        assert secret.encode() not in path.read_bytes(), path
    for text in (told.getvalue(), caplog.text, *capsys.readouterr()):
        assert secret not in text
    assert VARIABLE in folder.config.read_text()


def test_a_key_that_the_server_does_not_know_ends_a_run_before_it_begins(
    keyed: Recipe, secret: str, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = secret.swapcase()
    monkeypatch.setenv(VARIABLE, wrong)

    async def play() -> None:
        async with serving():
            await preflight(keyed)

    with pytest.raises(Unauthorized) as refused:
        asyncio.run(play())
    assert wrong not in str(refused.value)


def test_why_a_run_ended_is_one_line() -> None:
    lines = RuntimeError("2 workers were killed due to the node running low on memory.\nTop 10: …")
    assert (
        reason(lines)
        == "RuntimeError: 2 workers were killed due to the node running low on memory."
    )
    assert reason(RuntimeError()) == "RuntimeError"
    assert reason(asyncio.CancelledError()) == "interrupted"
