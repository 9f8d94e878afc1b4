"""The server as a process: start, answers, and starts that cannot succeed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from reward_server import server as server_module
from reward_server.app import create_app
from reward_server.client import ClientOptions, RewardClient
from reward_server.config import RewardServerConfig
from reward_server.errors import DeviceFailed, ServerStartError
from reward_server.exchange import RetryPolicy
from reward_server.local import LocalScorer
from reward_server.server import _Failure, bind, listen, run, serve
from reward_server.specs import SequenceClassificationSpec
from tests.reward_server.faults.process import Process
from tests.reward_server.tiny import FakeScorer, group, make_tokenizer, save_model

TIMEOUT = 60


@pytest.fixture(scope="module")
def process(model_folder: Path) -> Iterator[Process]:
    with Process("--model", str(model_folder), "--dtype", "float32") as process:
        yield process


@pytest.mark.integration
def test_a_served_reward_is_the_one_of_this_process(process: Process, model_folder: Path) -> None:
    spec = SequenceClassificationSpec(model=str(model_folder), dtype="float32")
    local = LocalScorer(model_folder, spec)
    groups = [group("a"), group("b", "See a doctor.")]
    expected = local.score(groups)
    with RewardClient(process.url) as client:
        assert client.ready()
        assert client.model().fingerprint == local.info.fingerprint
        served = client.score(groups, expected_fingerprint=local.info.fingerprint)
    assert [item.reward for group in served for item in group.results] == pytest.approx(
        [item.reward for group in expected for item in group.results], abs=1e-5
    )


@pytest.mark.integration
def test_the_ready_event_says_what_is_served(process: Process) -> None:
    assert process.ready["event"] == "server.ready"
    (model,) = process.ready["models"]
    assert (model["name"], model["kind"]) == ("default", "sequence_classification")
    assert (model["dtype"], model["device"], model["engine"]) == ("float32", "cpu", "packed")
    assert len(model["fingerprint"]) == 16


@pytest.mark.integration
def test_a_taken_port_is_one_line_and_exit_2(process: Process, model_folder: Path) -> None:
    done = attempt("--model", str(model_folder), "--port", str(process.port))
    assert done.returncode == 2
    assert done.stderr == (
        f"python -m reward_server: port: cannot listen on 127.0.0.1:{process.port} "
        "(Address already in use); give another --port\n"
    )


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reward_server", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT, env=environment
    )


@pytest.mark.integration
def test_a_model_without_a_template_is_one_line_and_exit_2(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer(None))
    done = attempt("--model", str(tmp_path), "--port", "0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no chat template; save one" in done.stderr


RULES = '[models.default]\nkind = "rules"\nrules = [{rule = "length"}]\n'


@pytest.mark.integration
def test_an_audit_file_that_cannot_be_written_is_one_line_and_exit_2(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'port = 0\naudit = "{tmp_path}/no/audit.jsonl"\n{RULES}')
    done = attempt("--config", str(config))
    assert done.returncode == 2
    assert done.stderr == (
        f"python -m reward_server: audit: {tmp_path}/no/audit.jsonl: cannot be written to "
        "(No such file or directory); name a file in a folder of this user\n"
    )
    assert "server.ready" not in done.stdout


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves logging as it was."""
    monkeypatch.setattr(server_module, "configure_logging", lambda: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, r"host: '0\.0\.0\.0' lets other machines in, and without keys"),
        ({"host": "::"}, "host: '::' lets other machines in"),
        ({"host": "nowhere.invalid"}, "host: 'nowhere.invalid' lets other machines in"),
        ({"keys": "no-keys.json"}, r"keys: no-keys\.json: no such file; make it with"),
        ({"model": "no/such/model"}, "model: no/such/model is neither a folder nor a model"),
    ],
)
def test_a_start_that_cannot_succeed_is_refused(settings: dict[str, str], message: str) -> None:
    config = RewardServerConfig.model_validate({"model": "unused", "port": 0, **settings})
    with pytest.raises(ServerStartError, match=message):
        serve(config)


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


# A server in this process


@pytest.fixture
def restored_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.usefixtures("restored_signals")
def test_a_dead_device_ends_the_server_with_status_1(
    config: RewardServerConfig, scorer: FakeScorer, listener: socket.socket
) -> None:
    outcomes: list[Exception] = []
    failure = _Failure()
    app = create_app(config, scorer)
    scorer.error = RuntimeError("the device is gone")

    def ask(url: str) -> None:
        options = ClientOptions(retry=RetryPolicy(attempts=1))
        with RewardClient(url, options) as client:
            try:
                client.score([group()])
            except DeviceFailed as error:
                outcomes.append(error)
        failure.happened(RuntimeError("the device is gone"))  # as the device's thread would

    caller = threading.Thread(target=ask, args=[url_of(listener)])
    caller.start()
    status = run(app, config, listener, failure)
    caller.join(timeout=TIMEOUT)
    assert status == 1
    assert len(outcomes) == 1
    assert not scorer.is_open
    assert app.state.server.is_draining


@pytest.mark.usefixtures("restored_signals")
def test_a_device_that_died_before_the_server_ran_ends_it_at_once(
    config: RewardServerConfig, scorer: FakeScorer, listener: socket.socket
) -> None:
    failure = _Failure()
    failure.happened(RuntimeError("the device is gone"))
    assert run(create_app(config, scorer), config, listener, failure) == 1


@pytest.mark.usefixtures("restored_signals")
def test_a_signal_ends_the_server_with_status_0_once_it_has_answered(
    config: RewardServerConfig, scorer: FakeScorer, listener: socket.socket
) -> None:
    statuses: list[int] = []

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=TIMEOUT) as http:
            response = http.post("/v1/score", content=b"{}")
            statuses.append(response.status_code)
        signal.raise_signal(signal.SIGTERM)

    caller = threading.Thread(target=ask, args=[url_of(listener)])
    caller.start()
    with structlog.testing.capture_logs() as logs:
        status = run(create_app(config, scorer), config, listener, _Failure())
    caller.join(timeout=TIMEOUT)
    assert (status, statuses) == (0, [422])
    events = [entry["event"] for entry in logs]
    assert (events[0], events[-1]) == ("server.ready", "server.stopped")


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
@pytest.mark.usefixtures("restored_signals")
def test_the_ready_event_has_a_url_that_can_be_asked(
    config: RewardServerConfig, scorer: FakeScorer, host: str, url: str
) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    failure = _Failure()
    failure.happened(RuntimeError("to end at once"))
    with bind(host, 0) as listener, structlog.testing.capture_logs() as logs:
        listen(listener)
        run(create_app(config, scorer), config, listener, failure)
    ready = next(entry for entry in logs if entry["event"] == "server.ready")
    assert ready["url"].startswith(url)


def _has_ipv6() -> bool:
    try:
        bind("::1", 0).close()
    except ServerStartError:
        return False
    return True


def test_events_are_json_lines_where_nobody_watches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server_module.configure_logging()
    try:
        server_module.log.info("request.scored", groups=1)
        entry = json.loads(capsys.readouterr().out)
    finally:
        structlog.reset_defaults()
    assert entry["event"] == "request.scored"
    assert entry["level"] == "info"
