from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from corpora.conversation import Conversation
from foundation.process import ProcessError, free_port
from policy import server as server_module
from policy.client import AsyncPolicyClient, SampledGroup, SamplingParameters
from policy.config import PolicyServerConfig
from policy.errors import PolicyServerFailed, PolicySetupError
from policy.launch import (
    check_setup,
    command,
    environment,
    is_cpu_build,
    write_identity_adapter,
)
from policy.server import PolicyServer
from tests.policy.tiny import TinyPolicy

PATIENCE_SECONDS = 300
QUESTION = Conversation.ask("What helps a stuffy nose?")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model from outside."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def config(model: Path | str, **changes: Any) -> PolicyServerConfig:
    return PolicyServerConfig.model_validate({"model": str(model), "port": free_port(), **changes})


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_server_binds_loopback_and_nothing_can_change_that(model: Path) -> None:
    assert option(command(config(model), on_cpu=True), "--host") == "127.0.0.1"
    with pytest.raises(ValidationError, match="host"):
        config(model, host="0.0.0.0")


def modules(arguments: list[str]) -> list[dict[str, str]]:
    start = arguments.index("--lora-modules") + 1
    return [json.loads(argument) for argument in arguments[start:]]


def test_the_base_is_served_as_base_beside_its_adapters_on_a_gpu(model: Path) -> None:
    arguments = command(config(model), adapters={"r1": Path("/adapters/r,1=a")}, on_cpu=False)
    assert option(arguments, "--served-model-name") == "base"
    assert option(arguments, "--max-loras") == "4"
    assert modules(arguments) == [{"name": "r1", "path": "/adapters/r,1=a"}]
    assert "--lora-modules" not in command(config(model), on_cpu=False)


def test_the_base_is_an_adapter_that_changes_nothing_on_a_cpu(model: Path, tmp_path: Path) -> None:
    settings = config(model, log_file=tmp_path / "logs" / "server.log")
    arguments = command(settings, adapters={"r1": Path("/adapters/r1")}, on_cpu=True)
    assert option(arguments, "--served-model-name") != "base"
    assert option(arguments, "--max-loras") == "5"
    assert [module["name"] for module in modules(arguments)] == ["base", "r1"]
    write_identity_adapter(settings)
    weights = load_file(Path(modules(arguments)[0]["path"]) / "adapter_model.safetensors")
    assert weights
    assert not any(weight.any() for weight in weights.values())


@pytest.mark.parametrize(
    ("on_cpu", "eager", "expected"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_only_a_cpu_is_eager_unless_told(
    model: Path, on_cpu: bool, eager: bool | None, expected: bool
) -> None:
    assert ("--enforce-eager" in command(config(model, eager=eager), on_cpu=on_cpu)) is expected


def test_memory_is_given_in_each_builds_own_way(model: Path) -> None:
    settings = config(model, kv_cache_gib=3, gpu_memory_utilization=0.5, tensor_parallel_size=2)
    on_gpu = command(settings, on_cpu=False)
    assert option(on_gpu, "--gpu-memory-utilization") == "0.5"
    assert option(on_gpu, "--tensor-parallel-size") == "2"
    assert "--gpu-memory-utilization" not in command(settings, on_cpu=True)
    assert environment(settings, on_cpu=True)["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment(settings, on_cpu=False)


def test_prompts_stay_in_one_piece_on_a_cpu_only(model: Path) -> None:
    assert "--no-enable-chunked-prefill" in command(config(model), on_cpu=True)
    assert "--no-enable-chunked-prefill" not in command(config(model), on_cpu=False)


def test_adapters_never_touch_the_output_head(model: Path) -> None:
    arguments = command(config(model), on_cpu=False)
    first = arguments.index("--lora-target-modules") + 1
    assert arguments[first : first + 7] == [
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    ]


def test_target_modules_are_read_from_a_command_line(model: Path) -> None:
    settings = config(model, lora_target_modules="query_key_value,dense")
    assert settings.lora_target_modules == ("query_key_value", "dense")


def test_limits_and_template_are_passed_on_when_given(model: Path) -> None:
    plain = command(config(model), on_cpu=True)
    assert "--max-model-len" not in plain
    assert "--chat-template" not in plain
    given = command(config(model, max_model_len=512, chat_template=Path("t.jinja")), on_cpu=True)
    assert option(given, "--max-model-len") == "512"
    assert option(given, "--chat-template") == "t.jinja"


def test_a_local_model_never_asks_the_hub(model: Path) -> None:
    assert environment(config(model), on_cpu=True)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(config("medalpaca/medalpaca-7b"), on_cpu=True)


def test_a_rank_that_vllm_has_no_room_for_is_refused(model: Path) -> None:
    with pytest.raises(ValidationError, match="max_lora_rank"):
        config(model, max_lora_rank=12)


def test_a_complete_setup_passes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    check_setup(config(model), adapters={"r1": tmp_path})
    check_setup(config("medalpaca/medalpaca-7b"))


@pytest.mark.parametrize(
    ("changes", "adapters", "message"),
    [
        pytest.param({"model": "./absent"}, {}, "model: ./absent: no such folder", id="no model"),
        pytest.param({"model": "/"}, {}, "model: /: no config.json in it", id="not a model"),
        pytest.param(
            {"chat_template": "absent.jinja"}, {}, "chat_template: absent.jinja", id="no template"
        ),
        pytest.param({}, {"r1": "/"}, "adapter: r1=/: no adapter_config.json", id="not an adapter"),
        pytest.param({}, {"base": "/"}, "adapter: base=/: base is the model", id="name taken"),
    ],
)
def test_an_unusable_setup_is_one_line_naming_field_and_value(
    model: Path, changes: dict[str, Any], adapters: dict[str, str], message: str
) -> None:
    with pytest.raises(PolicySetupError) as caught:
        check_setup(
            config(**{"model": model, **changes}),
            adapters={name: Path(path) for name, path in adapters.items()},
        )
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_installed_build_is_known() -> None:
    assert isinstance(is_cpu_build(), bool)


class Script:
    """Stands in for vLLM's command: one Python program per start."""

    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.adapters: list[dict[str, Path]] = []

    def __call__(
        self, config: PolicyServerConfig, *, adapters: dict[str, Path], on_cpu: bool
    ) -> list[str]:
        self.adapters.append(dict(adapters))
        return [sys.executable, "-c", self.programs.pop(0), str(config.port)]


ANSWERS_THEN_CRASHES = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        models = [{"id": "base", "root": "m"}, {"id": "r1", "root": "/", "parent": "base"},
                  {"id": "gone", "root": "/no/such/adapter", "parent": "base"}]
        self.wfile.write(json.dumps({"data": models}).encode())
        if self.path == "/v1/models":
            self.wfile.flush()
            os._exit(3)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_crashes_are_answered_with_restarts_that_serve_the_same_adapters_until_too_many(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(ANSWERS_THEN_CRASHES, ANSWERS_THEN_CRASHES, "raise SystemExit('no memory')")
    monkeypatch.setattr(server_module, "command", script)
    monkeypatch.setattr(server_module, "LOOK_SECONDS", 0.01)
    settings = config(model, max_restarts=2, log_file=tmp_path / "server.log")
    with PolicyServer(settings) as server:
        with pytest.raises(PolicyServerFailed, match=r"after 2 restarts; see .*server\.log"):
            server.wait()
        assert server.restarts == 2
    assert script.adapters == [{}, {"r1": Path("/")}, {"r1": Path("/")}]


def test_a_server_that_cannot_start_leaves_nothing_behind(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "command", Script("raise ValueError('no such dtype')"))
    server = PolicyServer(config(model, log_file=tmp_path / "server.log"))
    with pytest.raises(ProcessError, match=r"server\.log: ended with code 1 .*no such dtype"):
        server.start()
    server.wait()


def run_policy(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "policy", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wrong_model_is_one_line_and_exit_code_2() -> None:
    finished = run_policy("--model", "runs/absent/policies/base")
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr == (
        "python -m policy: model: runs/absent/policies/base: no such folder; "
        "give a model folder, or organisation/name on the hub\n"
    )


def test_a_port_in_use_is_one_line_and_exit_code_2(model: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        finished = run_policy("--model", model, "--port", port)
    assert finished.returncode == 2
    assert finished.stderr == (
        f"python -m policy: port: {port} is in use on 127.0.0.1; "
        "stop what listens there, or give another one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--port", "0"], "port: '0': Input should be greater", id="port"),
        pytest.param(["--adapter", "r1"], "'r1': write it as NAME=PATH", id="adapter"),
        pytest.param(["--max-lora-rank", "12"], "'12': give one of 1, 8, 16, 32", id="rank"),
    ],
)
def test_bad_usage_is_exit_code_2(model: Path, arguments: list[str], message: str) -> None:
    finished = run_policy("--model", model, *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr


def test_help_shows_an_example() -> None:
    finished = run_policy("--help")
    assert finished.returncode == 0
    assert "  python -m policy --model runs/" in finished.stdout


@contextmanager
def serving(policy: TinyPolicy, log_file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python -m policy`` with both adapters, once it is ready; and its URL."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "policy", "--model", str(policy.model)),
            *("--port", str(free_port()), "--dtype", "float32", "--log-file", str(log_file)),
            *(f"--adapter={name}={path}" for name, path in policy.adapters.items()),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "server.ready"
        yield process, ready["url"]
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def descendants(pid: int) -> dict[int, str]:
    """Process id → command line of everything below a process."""
    below: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            below[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            below |= descendants(child)
    return below


def all_end(handles: list[int]) -> bool:
    return all(select.select([handle], [], [], 30)[0] for handle in handles)


async def is_generating(observer: httpx.AsyncClient) -> bool:
    metrics = (await observer.get("/metrics")).text.splitlines()
    counts = [line for line in metrics if line.startswith("vllm:num_requests_running{")]
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in counts)


async def sample(
    url: str, version: str, *, tokens: int = 16, budget: float = PATIENCE_SECONDS
) -> tuple[SampledGroup, int]:
    async with AsyncPolicyClient(url, retry_budget_seconds=budget) as policy:
        parameters = SamplingParameters(8, 1.0, 1.0, tokens, seed=3)
        return await policy.sample(QUESTION, parameters, version=version), policy.failed_requests


@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_server_comes_back_with_its_adapters_and_drains_when_stopped(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    async def sample_while_stopping(url: str, process: subprocess.Popen[str]) -> SampledGroup:
        running = asyncio.create_task(sample(url, "r2", tokens=200, budget=0))
        async with httpx.AsyncClient(base_url=url) as observer:
            while not await is_generating(observer):
                assert not running.done()
        process.send_signal(signal.SIGTERM)
        return (await running)[0]

    with serving(tiny_policy, tmp_path / "vllm.log") as (process, url):
        before, _ = asyncio.run(sample(url, "r1"))
        keeper = next(iter(descendants(process.pid)))
        vllm = next(iter(descendants(keeper)))
        os.kill(vllm, signal.SIGKILL)
        after, failed = asyncio.run(sample(url, "r1"))
        assert [c.token_ids for c in after.candidates] == [c.token_ids for c in before.candidates]
        assert failed == 0
        drained = asyncio.run(sample_while_stopping(url, process))
        assert [candidate.seed for candidate in drained.candidates] == list(range(3, 11))
        assert process.wait(60) == 0


@pytest.mark.integration
@pytest.mark.slow
def test_kill_9_of_the_owner_leaves_no_part_of_vllm(
    tiny_policy: TinyPolicy, tmp_path: Path
) -> None:
    with serving(tiny_policy, tmp_path / "vllm.log") as (process, _):
        below = descendants(process.pid)
        assert any("VLLM::EngineCore" in line for line in below.values())
        handles = [os.pidfd_open(pid) for pid in below]
        process.kill()
        started = time.monotonic()
        assert all_end(handles)
        assert time.monotonic() - started < 30
        for handle in handles:
            os.close(handle)
