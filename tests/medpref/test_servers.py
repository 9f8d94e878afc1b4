from __future__ import annotations

import httpx
import pytest

from medpref.commands.servers import ModelSettings, ServerSettings, meet
from reward_server.client import PATIENCE, ClientOptions, RewardClient
from reward_server.errors import RewardServerUnreachable, UnknownModel
from reward_server.protocol import Identity, ModelInfo
from tests.reward_server.test_client import URL, Scripted, refuse


def test_a_job_asks_on_the_bulk_lane_with_the_key_and_with_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REWARD_KEY", "s3cret")
    settings = ModelSettings(server=URL, model="medical", api_key_env="REWARD_KEY")
    assert settings.client_options(settings.model) == ClientOptions(
        model="medical", api_key="s3cret", lane="bulk", retry=PATIENCE
    )


def test_without_a_variable_there_is_no_key() -> None:
    assert ServerSettings(server=URL).client_options().api_key is None


def serve(monkeypatch: pytest.MonkeyPatch, server: Scripted) -> None:
    def client(url: str, options: ClientOptions) -> RewardClient:
        transport = httpx.MockTransport(server)
        return RewardClient(url, options, transport=transport, sleep=server.pauses.append)

    monkeypatch.setattr("medpref.commands.servers.RewardClient", client)


OPTIONS = ServerSettings(server=URL).client_options()


def test_a_server_tells_what_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    info = ModelInfo(name="default", fingerprint="feed", identity=Identity(kind="rules"))
    serve(monkeypatch, Scripted(httpx.Response(200, content=info.model_dump_json())))
    assert meet(URL, OPTIONS) == info


def test_a_server_that_is_not_there_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted(httpx.ConnectError("Connection refused"))
    serve(monkeypatch, server)
    with pytest.raises(RewardServerUnreachable, match="no answer from http://server:8100"):
        meet(URL, OPTIONS)
    assert sum(server.pauses) < 1


def test_a_model_that_is_not_there_is_the_server_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Scripted(refuse("unknown_model", 404)))
    with pytest.raises(UnknownModel):
        meet(URL, OPTIONS)
