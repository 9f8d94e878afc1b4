"""The job end to end: a real vLLM with a tiny policy, a real reward server with a tiny model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.best_of_n.job import main
from benchmarks.best_of_n.results import read_best_of_n_results
from benchmarks.best_of_n.rewards import read_rewards
from benchmarks.errors import EvaluationFailed
from benchmarks.qa.answered import read_answered
from foundation.errors import UserError
from foundation.process import free_port
from tests.benchmarks.best_of_n.fakes import failing, suite
from tests.policy.tiny import RunningPolicy

pytestmark = pytest.mark.integration

PROGRAM = "import sys; from benchmarks.best_of_n.job import main; sys.exit(main(sys.argv[1:]))"


def flags(policy: str, folder: Path, **more: Any) -> list[str]:
    given = {"policy": policy, "output": folder, "samples": 4, "max-tokens": 12, **more}
    return [f"--{name}={value}" for name, value in given.items()]


def test_suites_end_to_end_over_http_and_in_process_with_the_same_rewards(
    policy_server: RunningPolicy,
    server: str,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = {"suite": f"s={suite(tmp_path)}", "samples-folder": tmp_path / "samples"}
    over_http = flags(policy_server.url, tmp_path / "http", server=server, **asked)
    assert main(over_http) == 0
    shown = capsys.readouterr().out
    assert "reward − random" in shown
    assert str(tmp_path / "http" / "results.json") in shown
    inside = {"model-path": model_folder, "dtype": "float32", **asked}
    assert main(flags(policy_server.url, tmp_path / "inside", **inside)) == 0

    results = read_best_of_n_results(tmp_path / "http")
    assert (results.counts.scored, results.partial, results.reward_model) == (4, False, "default")
    assert results.fingerprint == read_best_of_n_results(tmp_path / "inside").fingerprint
    one, other = (read_rewards(tmp_path / name / "rewards.jsonl") for name in ("http", "inside"))
    assert one.keys() == other.keys()
    for digest, rewarded in one.items():
        assert rewarded.rewards == pytest.approx(other[digest].rewards, abs=1e-4)
    lines = list(read_answered(tmp_path / "samples" / "answers-s.jsonl"))
    assert [len(line.samples) for line in lines] == [4] * 4


def test_a_world_end_to_end(policy_server: RunningPolicy, server: str, tmp_path: Path) -> None:
    given = flags(policy_server.url, tmp_path / "out", server=server, world="clinic", questions=3)
    assert main(given) == 0
    results = read_best_of_n_results(tmp_path / "out")
    assert (results.measure, results.counts.scored) == ("gold", 3)
    assert results.settings["world"] == "clinic"


def test_what_a_killed_job_had_done_is_not_done_again(
    policy_server: RunningPolicy, server: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    given = flags(policy_server.url, folder, server=server)
    given += [f"--suite=s={suite(tmp_path, 12)}", "--policy-concurrency=1", "--concurrency=1"]
    given += ["--groups-per-request=1", "--max-tokens=40"]
    for task in ("s, self-consistency", "rewards"):
        command = [sys.executable, "-c", PROGRAM, *given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            assert job.stderr is not None
            for line in job.stderr:
                told = json.loads(line)
                if told["task"] == task and told["done"] >= 2:
                    break
            job.send_signal(signal.SIGKILL)
        samples = (folder / "samples" / "answers-s.jsonl").read_bytes()
        assert samples.count(b"\n") >= 2
    rewards = (folder / "rewards.jsonl").read_bytes()
    assert rewards.count(b"\n") >= 2
    assert samples.count(b"\n") == 12

    assert main(given) == 0
    assert (folder / "samples" / "answers-s.jsonl").read_bytes() == samples
    kept = (folder / "rewards.jsonl").read_bytes()
    assert kept.startswith(rewards[: rewards.rfind(b"\n") + 1])
    assert kept.count(b"\n") == 12
    assert not read_best_of_n_results(folder).partial


def test_a_reward_server_that_is_not_there_is_told_before_anything_is_asked(
    policy_server: RunningPolicy, tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    given = flags(policy_server.url, tmp_path / "out", server=nobody, world="clinic", questions=2)
    with pytest.raises(UserError, match="no answer from"):
        main(given)
    assert not (tmp_path / "out").exists()


def test_answers_that_are_too_long_for_the_reward_model_are_counted(
    policy_server: RunningPolicy, model_folder: Path, tmp_path: Path
) -> None:
    given = {"model-path": model_folder, "dtype": "float32", "max-length": 120}
    path = suite(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["id1"]["question"] = "Is it q1 ?" + " Or q1 ?" * 5
    path.write_text(json.dumps(content), encoding="utf-8")
    lengths = {"suite": f"s={path}", "max-tokens": 2, "samples": 2}
    assert main(flags(policy_server.url, tmp_path / "out", **given, **lengths)) == 0
    results = read_best_of_n_results(tmp_path / "out")
    assert results.counts.failed > 0
    assert results.counts.scored + results.counts.failed == 4
    assert set(results.counts.errors) == {"candidate_too_long"}


def test_servers_that_go_away_fail_the_job_and_what_is_done_is_kept(
    policy_server: RunningPolicy, server: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    given = {"suite": f"s={suite(tmp_path)}", "groups-per-request": 1, "concurrency": 1}
    given |= {"policy-concurrency": 1, "policy-retry-seconds": 0, "retry-seconds": 0}
    goes_on = pytest.raises(EvaluationFailed, match=r"the same command goes on")
    with failing(policy_server.url, after=3) as policy, goes_on:
        main(flags(policy, folder, server=server, **given))
    results = read_best_of_n_results(folder)
    assert results.counts.scored == 3
    assert "questions not asked: 1" in results.partial_reasons

    (folder / "rewards.jsonl").unlink()
    with failing(server, after=2) as rewards, goes_on:
        main(flags(policy_server.url, folder, server=rewards, **given))
    results = read_best_of_n_results(folder)
    assert results.counts.scored == 2
    assert "questions with samples and no rewards: 2" in results.partial_reasons

    assert main(flags(policy_server.url, folder, server=server, **given)) == 0
    assert not read_best_of_n_results(folder).partial
