"""From flags to an endpoint."""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_args

import pytest

from benchmarks.endpoints.foreign import ForeignEndpoint
from benchmarks.endpoints.local import LocalEndpoint
from benchmarks.endpoints.native import NativeEndpoint
from benchmarks.endpoints.open import EndpointSettings, open_endpoint
from benchmarks.endpoints.wires import WIRES, WireName
from benchmarks.errors import EvaluationFailed
from corpora.conversation import Conversation
from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from reward_server.protocol import ScoreGroup

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9"
GROUP = ScoreGroup.of("q", Conversation.ask("Why?"), ["Rest.", "No."])


def read(*flags: str) -> EndpointSettings:
    parser = Parser("bench", "")
    add_settings(parser, EndpointSettings)
    given: argparse.Namespace = parser.parse_args(flags)
    return read_settings(EndpointSettings, given)


async def test_each_way_gives_the_same_rewards(server: str, model_folder: Path) -> None:
    found = []
    for flags, kind in (
        (["--server", server, "--concurrency", "2"], NativeEndpoint),
        (["--server", server, "--wire", "vllm-classify", "--model", "default"], ForeignEndpoint),
        (
            ["--server", server, "--wire", "openrlhf", "--tokenizer", str(model_folder)],
            ForeignEndpoint,
        ),
        (["--model-path", str(model_folder), "--dtype", "float32"], LocalEndpoint),
    ):
        endpoint = open_endpoint(read(*flags))
        assert isinstance(endpoint, kind)
        async with aclosing(endpoint.score([GROUP])) as stream:
            (rewards,) = [each async for each in stream]
        found.append(rewards.rewards)
        await endpoint.aclose()
    assert found[1:] == [pytest.approx(found[0], abs=1e-4)] * 3


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "--server: missing; give the URL of a reward server, or --model-path DIR"),
        (["--server", URL, "--model-path", "."], "--model-path: . beside --server .*; give one of"),
        (["--server", "nowhere"], "nowhere' is not the URL of a server; write it as http"),
        (["--server", "nowhere", "--wire", "nim"], "--server: 'nowhere' is not the URL"),
        (["--server", URL, "--wire", "openrlhf"], "--tokenizer: missing; the wire openrlhf"),
        (["--server", URL, "--wire", "nim", "--tokenizer", "x"], "--tokenizer: x; .*nim is none"),
        (["--server", URL, "--tokenizer", "x"], "--tokenizer: x; .*native .* leave it out"),
        (["--server", URL, "--wire", "oat", "--model", "rm"], "--model: rm; .*no place"),
        (["--server", URL, "--max-length", "9"], "--max-length: 9; is for --model-path"),
        (["--server", URL, "--wire", "nim", "--on-overflow", "truncate"], "--on-overflow: trunc"),
        (["--server", URL, "--api-key-env", "NO_SUCH"], "--api-key-env: NO_SUCH is not set"),
        (["--server", URL, "--wire", "soap"], "wire: 'soap': Input should be"),
        (["--model-path", ".", "--wire", "nim"], "--wire: nim; is for --server: leave it out"),
        (["--model-path", ".", "--model", "rm"], "--model: rm; is for --server"),
        (["--model-path", "/no/such"], "--model-path: /no/such is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_line(flags: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        open_endpoint(read(*flags))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wire", ["native", "slime"])
async def test_another_model_than_the_one_that_is_named_ends_the_stream(
    server: str, wire: WireName
) -> None:
    url = f"{server}/slime" if wire == "slime" else server
    settings = read("--server", url, "--wire", wire)
    endpoint = open_endpoint(settings, use_cache=False, expected_fingerprint="beef")
    with pytest.raises(EvaluationFailed, match="beef"):
        await anext(endpoint.score([GROUP]))
    await endpoint.aclose()


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDS_KEY", " secret\n")
    for wire in ("native", "nim"):
        endpoint: Any = open_endpoint(
            read("--server", URL, "--wire", wire, "--api-key-env", "REWARDS_KEY")
        )
        options = endpoint._client.options if wire == "native" else endpoint._options
        assert options.api_key == "secret"
        assert options.lane == "bulk"
        await endpoint.aclose()


def test_the_help_names_every_wire_that_needs_a_tokenizer() -> None:
    told = EndpointSettings.model_fields["wire"].description
    assert told is not None
    for name in get_args(WireName):
        assert (name in told) == (WIRES[name].needs_tokenizer or name.endswith(("score", "rerank")))


def test_opening_a_server_loads_no_heavy_library() -> None:
    program = (
        "import sys; from benchmarks.endpoints.open import EndpointSettings, open_endpoint;"
        f"[open_endpoint(EndpointSettings(server={URL!r}, wire=w)) for w in ('native', 'oat')];"
        "print(*({'torch', 'transformers', 'fastapi', 'msgspec'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
