"""Models that are swapped while eight callers score without a pause."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reward_server.local import LocalScorer
from reward_server.specs import SequenceClassificationSpec
from tests.reward_server.faults.load import Job, client, make_job
from tests.reward_server.faults.process import Process

CALLERS = 8
SWAPS = 5


def expected(folder: Path, job: Job) -> tuple[str, list[float]]:
    """Fingerprint and rewards of a model in this process."""
    spec = SequenceClassificationSpec(model=str(folder), dtype="float32", deterministic=True)
    local = LocalScorer(folder, spec)
    (result,) = local.score([job.group])
    return local.info.fingerprint, [each.reward or 0.0 for each in result.results]


def test_a_swap_under_load_fails_no_request_and_mixes_no_models(
    slow_server: Process, folders: tuple[Path, Path]
) -> None:
    job = make_job(candidates=8)
    rewards = dict(expected(folder, job) for folder in folders)
    assert len(rewards) == 2
    stopped = threading.Event()

    def ask() -> list[Any]:
        answers = []
        with client(slow_server.url) as http:
            while not stopped.is_set():
                answers.append(http.post("/v1/score", json=job.body))
        return answers

    def swap(folder: Path) -> str:
        spec = {"kind": "sequence_classification", "model": str(folder)}
        sent = {**spec, "dtype": "float32", "deterministic": True}
        with client(slow_server.url) as http:
            swapped = http.put("/v1/admin/models/default", json=sent)
        assert swapped.status_code == 200, swapped.text
        fingerprint: str = swapped.json()["fingerprint"]
        return fingerprint

    with ThreadPoolExecutor(CALLERS) as pool:
        asking: list[Future[list[Any]]] = [pool.submit(ask) for _ in range(CALLERS)]
        try:
            served = [swap(folders[(number + 1) % 2]) for number in range(SWAPS)]
        finally:
            stopped.set()
        answers = [answer for each in asking for answer in each.result()]
    swap(folders[0])

    first, second = rewards
    assert served == [second, first, second, first, second]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["fingerprint"] for answer in answers} == set(rewards)
    for answer in answers:
        content = answer.json()
        assert answer.headers["x-reward-fingerprint"] == content["fingerprint"]
        given = [each["reward"] for each in content["groups"][0]["results"]]
        assert given == pytest.approx(rewards[content["fingerprint"]], abs=1e-5)
    with client(slow_server.url) as http:
        assert http.get("/health/ready").status_code == 200
        assert len(http.get("/v1/models").json()["models"]) == 1
    assert slow_server.is_running
