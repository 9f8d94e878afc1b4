"""The command against a server on a local port: its output, and what survives its end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import UserError
from medpref.commands.score import HEARTBEAT_SECONDS, Meter, main
from reward_server.bulk import BulkProgress
from reward_server.errors import Unauthorized, UnknownModel
from reward_server.protocol import Identity, ModelInfo, ScoreRequest
from tests.reward_server.test_exchange import problem, respond

ROOT = Path(__file__).parents[2]
INFO = ModelInfo(name="default", fingerprint="feed", identity=Identity(kind="rules"))
TIMEOUT = 60


class RewardServer(ThreadingHTTPServer):
    """Scores with the lengths of candidates; ``stops_at`` holds back the answer to one group."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.key: str | None = None
        self.stops_at: str | None = None
        self.is_stuck = threading.Event()
        self.go_on = threading.Event()
        self.asked: list[str] = []

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return 401, problem("unauthorized", 401)
        if path.startswith("/v1/models/"):
            is_known = path == "/v1/models/default"
            content = INFO.model_dump_json().encode()
            return (200, content) if is_known else (404, problem("unknown_model", 404))
        asked = ScoreRequest.model_validate_json(body)
        names = [group.id for group in asked.groups]
        self.asked += names
        if self.stops_at in names:
            self.is_stuck.set()
            assert self.go_on.wait(timeout=TIMEOUT)
        return 200, respond(asked).model_dump_json().encode()


class Handler(BaseHTTPRequestHandler):
    server: RewardServer

    def do_GET(self) -> None:
        self.reply(b"")

    def do_POST(self) -> None:
        self.reply(self.rfile.read(int(self.headers["content-length"])))

    def reply(self, body: bytes) -> None:
        status, content = self.server.answer(self.path, self.headers, body)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[RewardServer]:
    with RewardServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    records = [
        {"id": f"q{index}", "prompt": "What helps a cold?", "responses": ["x" * index, "Tea."]}
        for index in range(12)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_file_is_scored_and_the_end_is_told_in_json(
    server: RewardServer, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source.with_name("out.jsonl")
    assert main([str(source), str(target), "--server", server.url]) == 0
    rewards = [json.loads(line)["rewards"] for line in target.read_text().splitlines()]
    assert rewards == [[float(index), 4.0] for index in range(12)]
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["event"] == "file.scored"
    assert (end["path"], end["records"], end["errors"]) == (str(target), 12, 0)
    assert end["fingerprint"] == "feed"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--limit", "0"], "limit: '0': Input should be greater", id="limit"),
        pytest.param(["--lane", "fast"], "lane: 'fast'", id="lane"),
        pytest.param(["--on-error", "skip"], "on_error: 'skip'", id="on error"),
        pytest.param(["--groups-per-request", "many"], "groups_per_request: 'many'", id="groups"),
        pytest.param(
            ["--api-key-env", "NO_SUCH_KEY"], "--api-key-env: NO_SUCH_KEY is not set", id="key"
        ),
        pytest.param(["--server", "here"], "'here' is not the URL of a server", id="url"),
    ],
)
def test_bad_flags_are_one_line_and_write_nothing(
    server: RewardServer, source: Path, flags: list[str], words: str
) -> None:
    with pytest.raises(UserError) as stop:
        main([str(source), str(source.with_name("out.jsonl")), "--server", server.url, *flags])
    assert words in str(stop.value)
    assert [path.name for path in source.parent.iterdir()] == ["in.jsonl"]


def test_a_server_that_is_not_there_is_said_soon(source: Path) -> None:
    with RewardServer() as closed:
        url = closed.url
    with pytest.raises(UserError, match="no answer from"):
        main([str(source), str(source.with_name("out.jsonl")), "--server", url])


def test_the_key_comes_from_the_environment(
    server: RewardServer, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "s3cret"
    arguments = [str(source), str(source.with_name("out.jsonl")), "--server", server.url]
    with pytest.raises(Unauthorized):
        main(arguments)
    monkeypatch.setenv("REWARDS_KEY", "s3cret\n")
    assert main([*arguments, "--api-key-env", "REWARDS_KEY"]) == 0


def test_an_unknown_model_is_the_server_s_error(server: RewardServer, source: Path) -> None:
    target = source.with_name("out.jsonl")
    with pytest.raises(UnknownModel):
        main([str(source), str(target), "--server", server.url, "--model", "other"])


@contextmanager
def stuck(server: RewardServer, source: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as a process that waits for the answer to its ninth record."""
    program = (
        "import sys; from medpref import cli; cli.COMMANDS['score'] = ''; sys.exit(cli.main())"
    )
    target = str(source.with_name("out.jsonl"))
    command = [sys.executable, "-c", program, "score", str(source), target]
    flags = ["--server", server.url, "--groups-per-request", "1", "--concurrency", "1"]
    server.stops_at = "q8"
    with subprocess.Popen(
        [*command, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert server.is_stuck.wait(timeout=TIMEOUT)
            yield process
        finally:
            process.kill()


def kept(source: Path) -> list[str]:
    partial = source.with_name("out.jsonl.partial")
    return [json.loads(line)["id"] for line in partial.read_text().splitlines()]


def finish(server: RewardServer, source: Path) -> list[str]:
    """Runs the command again, to its end; the groups that it asked for."""
    server.stops_at = None
    server.go_on.set()
    server.asked.clear()
    target = source.with_name("out.jsonl")
    assert main([str(source), str(target), "--server", server.url]) == 0
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["rewards"] for line in lines] == [[float(index), 4.0] for index in range(12)]
    return server.asked


@pytest.mark.integration
def test_kill_9_loses_nothing_that_was_done(server: RewardServer, source: Path) -> None:
    with stuck(server, source) as process:
        process.kill()
        assert process.wait(TIMEOUT) == -signal.SIGKILL
    done = kept(source)
    assert len(done) >= 6
    server.asked.clear()
    assert not set(finish(server, source)) & set(done)


@pytest.mark.integration
def test_ctrl_c_is_exit_130_and_loses_nothing_that_was_done(
    server: RewardServer, source: Path
) -> None:
    with stuck(server, source) as process:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 130
    assert error == "medpref score: interrupted; what was finished is kept\n"
    done = kept(source)
    assert len(done) >= 6
    assert not set(finish(server, source)) & set(done)


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    with Meter(stream=stream, clock=clock) as meter:
        for done in range(20, 65):
            clock.now = float(done - 20)
            meter.show(BulkProgress(done, 120, 20, "feed", tokens=50 * (done - 20)))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["done"] for line in lines] == [30, 40, 50, 60]
    assert HEARTBEAT_SECONDS == 10
    assert lines[0]["event"] == "file.progressed"
    assert lines[0]["groups_per_second"] == 1.0
    assert lines[0]["tokens_per_second"] == 50.0
    assert lines[0]["seconds_left"] == 90.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    clock, terminal = Clock(), Terminal()
    with Meter(stream=terminal, clock=clock) as meter:
        clock.now = 10.0
        meter.show(BulkProgress(50, 120, 20, "feed", tokens=1_000))
    assert "50/120" in terminal.getvalue()
    assert "3.0 groups/s" in terminal.getvalue()
    assert "100 tokens/s" in terminal.getvalue()
