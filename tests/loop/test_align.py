"""Whole runs with real parts: vLLM, reward server, Ray, TRL; killed at every kind of moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from corpora.preference import read_pairs
from foundation.process import ChildProcess, free_port
from loop.ledger import connect
from loop.summary import Summary
from policy.config import PolicyServerConfig
from policy.server import PolicyServer
from tests.loop.runs import Attempt, Event, align, summary

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def finished(step: str, number: int = 1) -> tuple[str, int, str]:
    return ("step.finished", number, step)


def started(step: str, number: int = 1) -> tuple[str, int, str]:
    return ("step.started", number, step)


@dataclass(frozen=True)
class FinishedRun:
    path: Path
    killed: Attempt
    resumed: Attempt
    groups_at_kill: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run that starts all its servers, is killed while it samples, and is resumed."""
    folder = tmp_path_factory.mktemp("run")
    path, log = folder / "run", folder / "log"

    def is_half_sampled(event: Event) -> bool:
        return event.get("task") == "round 1: sampling and scoring" and event["done"] >= 4

    killed = align(path, kill_at=is_half_sampled, log=log)
    groups = groups_of(path, "round/1")
    resumed = align(path, "--resume", log=log)
    assert resumed.code == 0, resumed.errors
    return FinishedRun(path, killed, resumed, groups)


def groups_of(path: Path, phase: str) -> int:
    with sqlite3.connect(f"file:{path}/ledger.sqlite?mode=ro", uri=True) as database:
        [count] = database.execute(
            "SELECT COUNT(*) FROM groups WHERE phase = ?", (phase,)
        ).fetchone()
        return int(count)


def test_a_killed_run_is_finished_without_repeating_what_was_done(run: FinishedRun) -> None:
    assert run.killed.code == -9
    assert 4 <= run.groups_at_kill < 12
    done_before = {("base_policy"), ("reward_model"), ("baseline")}
    assert done_before.isdisjoint(step for _, step in run.resumed.started_steps())
    # Sampling goes on with the questions that had no group yet.
    first = next(e for e in run.resumed.events if e.get("task") == "round 1: sampling and scoring")
    assert first["done"] > run.groups_at_kill
    assert groups_of(run.path, "round/1") == 12


def test_the_summary_has_every_field_and_says_what_happened(run: FinishedRun) -> None:
    told = Summary.model_validate(summary(run.path))
    assert told.status == "completed"
    assert [played.round for played in told.rounds] == [1, 2]
    for played in told.rounds:
        assert played.prompts == 12
        assert played.candidates == 48
        assert played.pairs == len(
            list(read_pairs(run.path / f"rounds/{played.round}/pairs.jsonl"))
        )
        assert played.gate.decision == "promoted"
        assert played.deploy.verified
        assert played.deploy.failed_requests == 0
        assert played.deploy.requests > 0
        assert played.heldout is not None
        assert played.heldout.gold is not None
        assert played.heldout.kl_to_base is not None
    assert told.final.policy_version == "r2"
    assert told.baseline.gold is not None
    assert told.reward_model.heldout_accuracy is not None


def test_a_later_round_goes_on_from_the_promoted_adapter_against_the_fixed_base(
    run: FinishedRun,
) -> None:
    with connect(run.path / "ledger.sqlite") as database:
        rows = database.execute(
            "SELECT round, json_extract(output, '$.first_chosen_reward') FROM steps"
            " WHERE step = 'train' ORDER BY round"
        ).fetchall()
    # DPO's implicit reward is log π − log π_ref: nothing for a fresh adapter, something for one
    # that was trained before, since the reference is still the base.
    assert rows[0][1] == pytest.approx(0, abs=1e-6)
    assert abs(rows[1][1]) > 1e-5


def test_a_run_folder_holds_standard_models_and_a_report(run: FinishedRun) -> None:
    for version in ("r1", "r2"):
        files = {file.name for file in (run.path / "policies" / version).iterdir()}
        assert {"adapter_model.safetensors", "adapter_config.json", "canaries.json"} <= files
    assert (run.path / "policies" / "base" / "model.safetensors").is_file()
    assert (run.path / "reward_model" / "model.safetensors").is_file()
    assert "<svg" in (run.path / "report.html").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Servers:
    arguments: list[str]
    policy_url: str


@pytest.fixture(scope="module")
def servers(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers of the first run's models that stay up while drivers come and go."""
    logs = tmp_path_factory.mktemp("logs")
    base, reward = run.path / "policies" / "base", run.path / "reward_model"
    port = free_port()
    config = PolicyServerConfig(
        model=str(base),
        port=free_port(),
        dtype="float32",
        max_model_len=256,
        log_file=logs / "policy.log",
    )
    command = ["python", "-m", "reward_server", "--model", str(reward), "--port", str(port)]
    import sys

    command[0] = sys.executable
    with (
        ChildProcess(command, log_file=logs / "reward.log") as reward_server,
        PolicyServer(config) as policy_server,
    ):
        url = f"http://127.0.0.1:{port}"
        reward_server.wait_until_ready(f"{url}/health/ready", timeout=120)
        settings = {
            "rounds": "1",
            "policy.model": str(base),
            "policy.url": policy_server.url,
            "reward.url": url,
        }
        arguments = [
            part for key, value in settings.items() for part in ("--set", f"{key}={value}")
        ]
        yield Servers(arguments, policy_server.url)


def test_a_driver_killed_at_any_step_is_finished_by_the_next_one(
    servers: Servers, tmp_path: Path
) -> None:
    moments = [started("train"), finished("train"), started("gate"), finished("gate")]
    path, log = tmp_path / "run", tmp_path / "log"
    resume: list[str] = []
    done: list[tuple[int, str]] = []
    for moment in moments:

        def is_moment(event: Event, moment: tuple[str, int, str] = moment) -> bool:
            return (event["event"], event.get("round"), event.get("step")) == moment

        attempt = align(path, *servers.arguments, *resume, kill_at=is_moment, log=log)
        assert attempt.code == -9, attempt.errors
        assert not set(done) & set(attempt.started_steps())
        done += [
            (event["round"], event["step"])
            for event in attempt.events
            if event["event"] == "step.finished"
        ]
        resume = ["--resume"]
    last = align(path, *servers.arguments, *resume, log=log)
    assert last.code == 0, last.errors
    assert last.started_steps() == [(1, "deploy")]
    told = Summary.model_validate(summary(path))
    assert told.status == "completed"
    assert told.final.policy_version == "r1"
    served = httpx.get(f"{servers.policy_url}/v1/models").json()["data"]
    assert {model["id"] for model in served} >= {"base", "r1"}


def test_a_refused_round_keeps_the_old_policy_and_says_why(
    servers: Servers, tmp_path: Path
) -> None:
    # Versions of another run are still loaded under their names; this run's must not meet them.
    strict = ["--set", "gate.min_win_rate=0.99", "--set", "seed=1"]
    withdraw(servers.policy_url, "r1")
    attempt = align(tmp_path / "run", *servers.arguments, *strict, log=tmp_path / "log")
    assert attempt.code == 0, attempt.errors
    told = Summary.model_validate(summary(tmp_path / "run"))
    assert told.rounds[0].gate.decision == "refused"
    assert "does not clear 0.99" in told.rounds[0].gate.reason
    assert told.rounds[0].deploy.seconds is None
    assert told.final.policy_version == "base"
    assert told.final.gold_gain == 0.0
    served = httpx.get(f"{servers.policy_url}/v1/models").json()["data"]
    assert "r1" not in {model["id"] for model in served}


def withdraw(url: str, version: str) -> None:
    httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": version}).raise_for_status()
