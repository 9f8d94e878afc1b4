"""The job end to end on a real vLLM with a tiny policy: it knows nothing, but it answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import EvaluationFailed
from benchmarks.qa.answered import Answered, read_answered
from benchmarks.qa.job import main
from benchmarks.qa.likelihood import continuations
from benchmarks.qa.prompts import prompt
from benchmarks.qa.results import read_qa_results
from corpora.questions.registry import find_format, read_questions
from tests.policy.tiny import RunningPolicy, TinyPolicy, TrainerView

pytestmark = pytest.mark.integration

OPTIONS = {"A": "Rest", "B": "Tea", "C": "Ice"}
PROGRAM = "import sys; from benchmarks.qa.job import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Twelve short ones: the policy's context is 256 tokens."""
    path = tmp_path / "dev.json"
    content = {
        f"id{n}": {"question": f"Cold {n}?", "options": OPTIONS, "answer": "ABC"[n % 3]}
        for n in range(12)
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def flags(url: str, questions: Path, folder: Path, **more: Any) -> list[str]:
    given = {"server": url, "suite": f"s={questions}", "output": folder, "max-tokens": 24, **more}
    return [f"--{name}={value}" for name, value in given.items()]


def lines(folder: Path) -> list[Answered]:
    return list(read_answered(folder / "answers-s.jsonl"))


def test_all_modes_give_one_table(
    policy_server: RunningPolicy,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    modes = "greedy,self-consistency,likelihood"
    assert main(flags(policy_server.url, questions, folder, modes=modes, samples=4)) == 0
    shown = capsys.readouterr().out
    results = read_qa_results(folder)
    assert list(results.modes) == modes.split(",")
    assert all(mode.counts.scored == 12 for mode in results.modes.values())
    assert not results.partial
    assert "self-consistency" in shown
    assert str(folder / "results.json") in shown
    found = lines(folder)
    assert [len(line.samples) for line in found if line.mode == "self-consistency"] == [4] * 12
    assert all(line.choice in OPTIONS for line in found if line.mode == "likelihood")


@pytest.mark.parametrize("scored_by", ["letter", "text"])
def test_likelihoods_are_those_of_a_float32_forward(
    policy_server: RunningPolicy,
    tiny_policy: TinyPolicy,
    questions: Path,
    tmp_path: Path,
    scored_by: Any,
) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "out"
    given = {"modes": "likelihood", "scored-by": scored_by, "limit": 2}
    assert main(flags(policy_server.url, questions, folder, **given)) == 0
    trainer = TrainerView(tiny_policy)
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy.model)
    asked = read_questions(str(questions), find_format("mirage"), limit=2)
    for line, question in zip(lines(folder), asked, strict=True):
        scored = continuations(question, scored_by)
        before = trainer.prompt_token_ids(prompt(question, form="chat", wanted=scored_by))
        before += tuple(tokenizer.encode(scored.lead, add_special_tokens=False))
        expected = {
            letter: sum(
                trainer.logprobs(
                    before, tokenizer.encode(text, add_special_tokens=False), adapter=None
                )
            )
            for letter, text in scored.texts.items()
        }
        assert line.scores == pytest.approx(expected, abs=1e-3)
        assert line.choice == max(expected, key=lambda letter: expected[letter])


def test_what_a_killed_job_had_answered_is_not_asked_again(
    policy_server: RunningPolicy, questions: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    given = flags(policy_server.url, questions, folder, concurrency=1, **{"max-tokens": 60})
    journal = folder / "answers-s.jsonl"
    command = [sys.executable, "-c", PROGRAM, *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if json.loads(line)["done"] >= 3:
                break
        job.send_signal(signal.SIGKILL)
    before = journal.read_bytes()
    kept = before.count(b"\n")
    assert 3 <= kept < 12

    assert main(given) == 0
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert [line.number for line in lines(folder)] == list(range(12))
    assert not read_qa_results(folder).partial


def test_questions_that_are_too_long_are_errors_and_the_others_are_scored(
    policy_server: RunningPolicy, questions: Path, tmp_path: Path
) -> None:
    content = json.loads(questions.read_text(encoding="utf-8"))
    content["id5"]["question"] = "Cold? " * 80
    questions.write_text(json.dumps(content), encoding="utf-8")
    folder = tmp_path / "out"
    given = flags(policy_server.url, questions, folder, modes="greedy,likelihood")
    assert main(given) == 0
    results = read_qa_results(folder)
    assert results.partial
    for mode in ("greedy", "likelihood"):
        counts = results.modes[mode].counts
        assert (counts.scored, counts.failed) == (11, 1)
    assert all("maximum" in line.error for line in lines(folder) if line.error)


class Dying(BaseHTTPRequestHandler):
    """Is alive until it is asked something, and says that it serves ``model``."""

    model = ""

    def do_GET(self) -> None:
        content = json.dumps({"data": [{"id": "base", "root": self.model}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the terminal."""


@pytest.fixture
def dying_server(policy_server: RunningPolicy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Dying, "model", str(policy_server.model))
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_goes_away_fails_the_job_and_keeps_the_answers(
    policy_server: RunningPolicy, dying_server: str, questions: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert main(flags(policy_server.url, questions, folder, limit=4)) == 0
    with pytest.raises(EvaluationFailed, match=r"unreachable .* what was answered is in .*goes on"):
        main(flags(dying_server, questions, folder, **{"retry-seconds": 0}))
    results = read_qa_results(folder)
    assert results.modes["greedy"].counts.scored == 4
    assert "greedy: questions not asked: 8" in results.partial_reasons
