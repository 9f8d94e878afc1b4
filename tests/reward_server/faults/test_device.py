"""An engine that breaks, one that runs out of memory, and a model whose rewards are no numbers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reward_server.local import LocalScorer
from reward_server.problems import MEDIA_TYPE
from reward_server.specs import SequenceClassificationSpec
from tests.reward_server.faults.broken import TRIGGER
from tests.reward_server.faults.load import (
    Job,
    client,
    make_job,
    measured,
    pending_tokens,
    wait_until,
)
from tests.reward_server.faults.process import Process

CALLERS = 6


def broken(content: dict[str, Any], fault: dict[str, Any]) -> Process:
    """A server with an engine that breaks."""
    program = ("-m", "tests.reward_server.faults.broken")
    return Process(json.dumps(content), json.dumps(fault), program=program)


def test_a_broken_engine_fails_all_who_wait_and_ends_the_process(
    folders: tuple[Path, Path], job: Job
) -> None:
    content = {"model": str(folders[0]), "dtype": "float32", "deterministic": True}
    waiting = {**job.body, "lane": "bulk"}
    deadly = make_job(candidates=1).body
    deadly["groups"][0]["candidates"] = [TRIGGER]
    readiness: list[bool] = []
    has_failed = threading.Event()

    with (
        broken(content, {"fault": "raise"}) as process,
        client(process.url) as http,
        ThreadPoolExecutor(CALLERS + 1) as pool,
    ):
        tokens: int = http.post("/v1/score", json=job.body).json()["usage"]["tokens"]
        assert http.get("/health/ready").status_code == 200
        answers = [pool.submit(http.post, "/v1/score", json=waiting) for _ in range(CALLERS)]
        wait_until(lambda: pending_tokens(http) > (CALLERS - 1) * tokens, "all are admitted")
        watching = pool.submit(watch_readiness, process.url, has_failed, readiness)
        # Interactive, so it goes before the bulk work that waits.
        failed = [http.post("/v1/score", json=deadly), *(answer.result() for answer in answers)]
        has_failed.set()
        assert process.wait() == 1
        watching.result()

    for answer in failed:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == MEDIA_TYPE
        problem = answer.json()
        assert (problem["code"], problem["retryable"]) == ("device_failed", True)
        assert problem["request_id"] == answer.headers["x-request-id"]
    assert not any(readiness), "no look at the readiness after the failure may succeed"
    (event,) = process.named("device.failed")
    assert "the device is gone" in event["exception"]
    assert process.events[-1]["event"] == "server.stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(process.url)


def watch_readiness(url: str, has_failed: threading.Event, seen: list[bool]) -> None:
    """Looks until nobody answers; keeps what was seen once requests had failed."""
    with client(url) as http:
        while True:
            is_late = has_failed.is_set()
            try:
                is_ready = http.get("/health/ready").is_success
            except httpx.TransportError:
                return
            if is_late:
                seen.append(is_ready)


def save_nan(folder: Path, healthy: Path, *, only_at: str | None = None) -> Path:
    """A copy of a model in which one weight of the head is no number, or the vector of a word."""
    auto: Any = AutoModelForSequenceClassification
    model = auto.from_pretrained(healthy)
    tokenizer = AutoTokenizer.from_pretrained(healthy)
    if only_at is None:
        model.score.weight.data[0, 0] = torch.nan
    else:
        word = tokenizer.encode(only_at, add_special_tokens=False)
        model.get_input_embeddings().weight.data[word[-1]] = torch.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ailing(
    folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """A server of a model that runs out of memory above two inputs, and of one without numbers."""
    nan = save_nan(tmp_path_factory.mktemp("nan"), folders[0])
    one_word = save_nan(tmp_path_factory.mktemp("word"), folders[0], only_at=TRIGGER)
    classifier = {"kind": "sequence_classification", "dtype": "float32"}
    content = {
        "model": str(folders[0]),
        "dtype": "float32",
        "engine": "padded",
        "models": {
            "nan": {**classifier, "model": str(nan)},
            "one_word": {**classifier, "model": str(one_word), "engine": "packed"},
            "both": {"kind": "ensemble", "members": ["default", "nan"]},
        },
    }
    with broken(content, {"fault": "memory", "inputs": 2}) as process:
        yield process


def rewards(folder: Path, job: Job) -> list[float | None]:
    """What a healthy engine gives."""
    spec = SequenceClassificationSpec(model=str(folder), dtype="float32")
    (result,) = LocalScorer(folder, spec).score([job.group])
    return [each.reward for each in result.results]


def with_trigger(job: Job) -> dict[str, Any]:
    """The request with the trigger as its fifth candidate."""
    body: dict[str, Any] = json.loads(json.dumps(job.body))
    body["groups"][0]["candidates"][4] = TRIGGER
    return body


def test_out_of_memory_costs_time_and_only_what_never_fits_its_reward(
    ailing: Process, folders: tuple[Path, Path]
) -> None:
    job = make_job(candidates=9)
    expected = rewards(folders[0], job)
    body = with_trigger(job)
    with client(ailing.url) as http:
        response = http.post("/v1/score", json=body)
        again = http.post("/v1/score", json=job.body)
        found = measured(http)
        assert http.get("/health/ready").status_code == 200
    assert (response.status_code, again.status_code) == (200, 200)
    results = response.json()["groups"][0]["results"]
    failed = results.pop(4)
    del expected[4]
    assert failed["reward"] is None
    assert failed["error"] == {"code": "out_of_memory", "detail": "no room for 1 inputs"}
    assert [each["reward"] for each in results] == pytest.approx(expected, abs=1e-4)
    assert found["out_of_memory_total", "default"] >= 3
    assert found["item_errors_total", ""] == 1
    assert found["pending_tokens", "default"] == 0
    assert ailing.is_running
    assert ailing.named("device.failed") == []


def test_what_is_no_number_is_an_error_in_its_place_and_nowhere_else(ailing: Process) -> None:
    job = make_job(candidates=2)
    answers = {}
    with client(ailing.url) as http:
        for model in ("nan", "both", "default"):
            answers[model] = http.post("/v1/score", json={**job.body, "model": model})
        assert http.get("/health/ready").status_code == 200
    assert {answer.status_code for answer in answers.values()} == {200}
    results = {name: each.json()["groups"][0]["results"] for name, each in answers.items()}
    for item in results["nan"]:
        assert item["reward"] is None
        assert item["error"]["code"] == "non_finite_reward"
    for item in results["both"]:
        assert item["reward"] is None
        assert item["error"]["code"] == "member_failed"
        assert "member 'nan': non_finite_reward" in item["error"]["detail"]
    assert all(item["error"] is None for item in results["default"])
    assert ailing.is_running


def test_a_reward_that_is_no_number_does_not_spread_in_its_batch(
    ailing: Process, folders: tuple[Path, Path]
) -> None:
    job = make_job(candidates=9)
    expected = rewards(folders[0], job)
    with client(ailing.url) as http:
        response = http.post("/v1/score", json={**with_trigger(job), "model": "one_word"})
    assert (response.status_code, response.json()["engine"]) == (200, "packed")
    results = response.json()["groups"][0]["results"]
    assert results.pop(4)["error"]["code"] == "non_finite_reward"
    del expected[4]
    assert [each["reward"] for each in results] == pytest.approx(expected, abs=1e-4)
    assert ailing.is_running
