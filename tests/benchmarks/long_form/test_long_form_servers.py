"""The job as people run it: real servers, and a kill in the middle."""

from __future__ import annotations

import json
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

from benchmarks.errors import EvaluationFailed
from benchmarks.long_form.job import main
from benchmarks.long_form.results import read_long_form_results
from tests.benchmarks.long_form.fakes import answers, data, verdict
from tests.policy.tiny import RunningPolicy

pytestmark = pytest.mark.integration

PROGRAM = "import sys; from benchmarks.long_form.job import main; sys.exit(main(sys.argv[1:]))"


class Judge:
    """A judge behind a socket that can be made to keep silent, or to hang up, about a question."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.silent_about = self.hangs_up_about = "nothing"
        self.released = threading.Event()

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["content-length"]))
        prompt = json.loads(content)["messages"][0]["content"]
        self.asked.append(prompt)
        if self.silent_about in prompt:
            self.released.wait(60)
        if self.hangs_up_about in prompt or self.silent_about in prompt:
            handler.close_connection = True
            return
        choice = {"message": {"content": verdict(prompt)}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice]}).encode()
        handler.send_response(200)
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)


@contextmanager
def running_judge() -> Iterator[Judge]:
    judge = Judge()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            judge.post(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Not to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        judge.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield judge
        finally:
            judge.released.set()
            server.shutdown()
            thread.join()


def flags(judge: str, folder: Path, source: str, **more: Any) -> list[str]:
    given = {"judge": judge, "judge-model": "base", "output": folder, "retry-seconds": 0, **more}
    return [source, *(f"--{name}={value}" for name, value in given.items())]


def test_a_killed_job_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, source = tmp_path / "out", data(tmp_path)
    with running_judge() as judge:
        given = flags(judge.url, folder, source, answers=answers(tmp_path), concurrency=1)
        judge.silent_about = "q2"
        command = [sys.executable, "-c", PROGRAM, *given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            assert job.stderr is not None
            for line in job.stderr:
                if json.loads(line)["done"] >= 2:
                    break
            job.send_signal(signal.SIGKILL)
        judge.silent_about = "nothing"
        judge.released.set()
        kept = (folder / "judged.jsonl").read_bytes()
        assert kept.count(b"\n") == 2
        judge.asked.clear()
        assert main(given) == 0
        assert all("q2" in prompt for prompt in judge.asked)
    assert (folder / "judged.jsonl").read_bytes().startswith(kept)
    results = read_long_form_results(folder)
    assert (results.completeness.n, results.partial) == (3, False)


def test_a_judge_that_hangs_up_fails_the_job_in_one_line_and_keeps_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, source = tmp_path / "out", data(tmp_path)
    with running_judge() as judge:
        given = flags(judge.url, folder, source, answers=answers(tmp_path), concurrency=1)
        judge.hangs_up_about = "q1"
        with pytest.raises(EvaluationFailed, match=r"the same command goes on") as caught:
            main(given)
    assert "\n" not in str(caught.value)
    assert "completeness" in capsys.readouterr().out
    results = read_long_form_results(folder)
    assert (results.completeness.n, results.partial) == (1, True)


def test_a_real_policy_answers_and_a_judge_decides(
    policy_server: RunningPolicy, tmp_path: Path
) -> None:
    folder, source = tmp_path / "out", data(tmp_path)
    asked = {"policy": policy_server.url, "max-tokens": 12}
    with running_judge() as judge:
        assert main(flags(judge.url, folder, source, **asked)) == 0
    results = read_long_form_results(folder)
    assert (results.model, results.counts.scored, results.partial) == ("base", 3, False)
    journal = (folder / "judged.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["answer"] for line in journal)


def test_a_real_judge_that_gives_no_verdict_is_counted_and_never_scored(
    policy_server: RunningPolicy, chat_endpoint: str, tmp_path: Path
) -> None:
    # Its context is too short for the question: whatever it says, it is no verdict.
    folder, source = tmp_path / "out", data(tmp_path)
    given = flags(chat_endpoint, folder, source, answers=answers(tmp_path))
    assert main([*given, "--judge-tokens=8"]) == 0
    results = read_long_form_results(folder)
    assert (results.counts.scored, results.counts.failed) == (0, 3)
    assert results.completeness.score is None
    assert results.counts.errors == {"judge_failed": 12}
