"""The server as a process: start, answers, stop, and starts that cannot succeed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from corpora.conversation import Conversation
from reward_server import server as server_module
from reward_server.client import ClientOptions, RewardClient
from reward_server.config import RewardServerConfig
from reward_server.engine import SequenceClassificationScorer
from reward_server.errors import DeviceFailed, ServerStartError
from reward_server.exchange import RetryPolicy
from reward_server.protocol import ScoreGroup, ScoreRequest
from reward_server.server import bind, find_model, listen, run
from tests.reward_server.tiny import FakeScorer, group, make_tokenizer, save_model

TIMEOUT = 60


class Process:
    """``python -m reward_server`` on a free port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "reward_server", "--port", "0", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.child.stdout
        self.ready: dict[str, Any] = json.loads(self.child.stdout.readline())
        self.url: str = self.ready["url"]
        self.port = httpx.URL(self.url).port

    def stop(self) -> list[dict[str, Any]]:
        """Asks the server to stop and returns its further events."""
        self.child.send_signal(signal.SIGTERM)
        rest, _ = self.child.communicate(timeout=TIMEOUT)
        return [json.loads(line) for line in rest.splitlines()]


@pytest.fixture(scope="module")
def process(model_folder: Path) -> Iterator[Process]:
    process = Process("--model", str(model_folder), "--dtype", "float32")
    yield process
    if process.child.poll() is None:
        process.child.kill()
        process.child.wait()


def jobs(count: int) -> list[ScoreRequest]:
    conversation = Conversation.ask("When should I see a doctor about a fever? " * 3)
    answers = [f"See a doctor after {days} days. " * 3 for days in range(64)]
    groups = tuple(ScoreGroup.of(str(index), conversation, answers) for index in range(4))
    return [ScoreRequest(groups=groups)] * count


@pytest.mark.integration
def test_a_served_reward_is_the_engines(process: Process, model_folder: Path) -> None:
    config = RewardServerConfig(model=str(model_folder), dtype="float32")
    scorer = SequenceClassificationScorer.load(model_folder, config)
    groups = [group("a"), group("b", "See a doctor.")]
    expected = scorer.score(groups, on_overflow="error").groups
    with RewardClient(process.url) as client:
        assert client.ready()
        assert client.model() == scorer.info
        served = client.score(groups, expected_fingerprint=scorer.info.fingerprint)
    assert [item.reward for group in served for item in group.results] == pytest.approx(
        [item.reward for group in expected for item in group.results], abs=1e-5
    )


@pytest.mark.integration
def test_the_ready_event_says_what_is_served(process: Process) -> None:
    assert process.ready["event"] == "server.ready"
    assert process.ready["dtype"] == "float32"
    assert len(process.ready["fingerprint"]) == 16


@pytest.mark.integration
def test_a_taken_port_is_one_line_and_exit_2(process: Process, model_folder: Path) -> None:
    done = attempt("--model", str(model_folder), "--port", str(process.port))
    assert done.returncode == 2
    assert done.stderr == (
        f"python -m reward_server: port: cannot listen on 127.0.0.1:{process.port} "
        "(Address already in use); give another --port\n"
    )


@pytest.mark.integration
def test_sigterm_under_load_answers_what_was_admitted(process: Process) -> None:
    count = 3
    candidates = sum(len(group.candidates) for job in jobs(count) for group in job.groups)
    with httpx.Client(base_url=process.url, timeout=TIMEOUT) as http, ThreadPoolExecutor(8) as pool:
        body = jobs(1)[0].model_dump_json()
        headers = {"content-type": "application/json"}
        answers = [
            pool.submit(http.post, "/v1/score", content=body, headers=headers) for _ in range(count)
        ]
        while f"pending_candidates {candidates:.1f}" not in http.get("/metrics").text:
            assert not any(answer.done() for answer in answers), (
                "too quick to be stopped under load"
            )
        events = process.stop()
        assert [answer.result().status_code for answer in answers] == [200] * count
    assert process.child.returncode == 0
    assert events[-1]["event"] == "server.stopped"
    assert [event["event"] for event in events].count("request.scored") >= count
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", process.port))
    bind("127.0.0.1", process.port or 0).close()


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reward_server", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)


@pytest.mark.integration
def test_a_wrong_model_path_is_one_line_and_exit_2() -> None:
    done = attempt("--model", "no/such/model")
    assert done.returncode == 2
    assert done.stderr == (
        "python -m reward_server: model: no/such/model is neither a folder nor a model that "
        "the hub gives; give the path of a reward model\n"
    )


@pytest.mark.integration
def test_a_model_without_a_template_is_one_line_and_exit_2(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer(None))
    done = attempt("--model", str(tmp_path), "--port", "0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no chat template; save one" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "m", "--port", "70000"], "port: '70000': "),
        (["--model", "m", "--max-length", "1"], "max_length: '1': "),
        (["--model", ""], "model: '': "),
    ],
)
def test_a_setting_out_of_range_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from reward_server.__main__ import main

    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m reward_server: command line: {message}")
    assert printed.count("\n") == 1


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    from reward_server.__main__ import main

    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "examples:\n  python -m reward_server --model" in capsys.readouterr().out


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ServerStartError, match=r"holds no \*\.safetensors"):
        find_model(str(tmp_path))


def test_a_host_that_is_no_address_is_refused() -> None:
    with pytest.raises(ServerStartError, match=r"host: 'nowhere\.invalid' is not an address"):
        bind("nowhere.invalid", 0)


def test_of_two_servers_that_start_together_one_gets_the_port() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            listen(first)
            with pytest.raises(ServerStartError, match=f"cannot listen on 127.0.0.1:{port}"):
                listen(second)


@pytest.fixture
def restored_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("restored_signals")
def test_a_dead_device_ends_the_server_with_status_1(scorer: FakeScorer) -> None:
    scorer.error = RuntimeError("the device is gone")
    outcomes: list[Exception] = []

    def ask(url: str) -> None:
        options = ClientOptions(retry=RetryPolicy(attempts=1))
        with RewardClient(url, options) as client:
            try:
                client.score([group()])
            except DeviceFailed as error:
                outcomes.append(error)

    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        caller = threading.Thread(target=ask, args=[url])
        caller.start()
        status = run(RewardServerConfig(model="unused"), scorer, listener)
        caller.join(timeout=TIMEOUT)
    assert status == 1
    assert len(outcomes) == 1


def test_events_are_json_lines_where_nobody_watches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import structlog

    server_module.configure_logging()
    try:
        server_module.log.info("request.scored", groups=1)
        entry = json.loads(capsys.readouterr().out)
    finally:
        structlog.reset_defaults()
    assert entry["event"] == "request.scored"
    assert entry["level"] == "info"
