"""SIGTERM under load, and a server that is killed outright."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from reward_server.client import ClientOptions, RewardClient
from reward_server.exchange import RetryPolicy
from reward_server.protocol import GroupResult
from reward_server.server import bind
from tests.reward_server.faults.conftest import SLOW
from tests.reward_server.faults.load import Job, client, pending_tokens, wait_until
from tests.reward_server.faults.process import Process
from tests.reward_server.tiny import group

CALLERS = 8


def test_sigterm_answers_what_was_admitted_and_refuses_what_comes_later(
    folders: tuple[Path, Path], job: Job
) -> None:
    with (
        Process("--model", str(folders[0]), *SLOW) as process,
        client(process.url) as http,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        tokens: int = http.post("/v1/score", json=job.body).json()["usage"]["tokens"]
        answers = [pool.submit(http.post, "/v1/score", json=job.body) for _ in range(CALLERS)]

        def are_all_admitted() -> bool:
            assert not any(answer.done() for answer in answers), "too quick to be stopped"
            return pending_tokens(http) > (CALLERS - 1) * tokens

        wait_until(are_all_admitted, "all requests are admitted")
        process.terminate()
        later: list[int] = []
        wait_until(lambda: is_refused(process.url, job, later), "new connections are refused")
        assert [answer.result().status_code for answer in answers] == [200] * CALLERS
        assert set(later) <= {200, 503}
        assert process.wait() == 0
    assert process.events[-1]["event"] == "server.stopped"
    assert len(process.named("request.scored")) == 1 + CALLERS + later.count(200)
    assert "fever" not in f"{process.events} {process.stderr}", "no text of a conversation is told"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", process.port))
    bind("127.0.0.1", process.port).close()


def is_refused(url: str, job: Job, answered: list[int]) -> bool:
    """Whether a new client finds nobody; what it is answered otherwise goes into ``answered``."""
    small = {"groups": [{**job.body["groups"][0], "candidates": ["Rest."]}]}
    try:
        answered.append(httpx.post(f"{url}/v1/score", json=small, timeout=60).status_code)
    except httpx.TransportError:
        return True
    return False


RULES = '[models.default]\nkind = "rules"\nrules = [{rule = "length", max_words = 3}]\n'


def test_a_client_with_retries_outlives_a_server_that_was_killed(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(RULES)
    port, results = 0, list[GroupResult]()
    begun, stopped = threading.Event(), threading.Event()
    texts = ["Rest.", "Steam helps a stuffy nose."]
    # One group a request: each is sent by itself, and again if it was lost.
    options = ClientOptions(
        groups_per_request=1,
        retry=RetryPolicy(attempts=1_000, first_pause_seconds=0.05, longest_pause_seconds=0.05),
    )

    def ask(url: str) -> None:
        with RewardClient(url, options) as caller:
            while not stopped.is_set() or len(results) < 10:
                results.extend(caller.score([group(str(len(results)), *texts)]))
                begun.set()

    with Process("--config", str(config)) as first, ThreadPoolExecutor(1) as pool:
        port = first.port
        asking = pool.submit(ask, first.url)
        assert begun.wait(60)
        first.kill()
        assert first.child.returncode == -9
        before = len(results)
        with Process("--config", str(config), "--port", str(port)) as second:
            wait_until(lambda: len(results) > before + 1 or asking.done(), "it is answered again")
            stopped.set()
            asking.result()
            second.terminate()
            assert second.wait() == 0
    assert {tuple(each.reward for each in result.results) for result in results} == {(1.0, 0.0)}
    assert [result.id for result in results] == [str(number) for number in range(len(results))]


def test_a_body_that_does_not_come_is_refused_and_its_connection_closed(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f"max_body_seconds = 0.2\n{RULES}")
    head = b"POST /v1/score HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{"
    with (
        Process("--config", str(config)) as process,
        socket.create_connection(("127.0.0.1", process.port), timeout=60) as half,
    ):
        half.sendall(head)
        answer = b""
        while received := half.recv(4_096):
            answer += received
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow","retryable":true' in answer


def test_a_client_that_never_ends_its_request_does_not_hold_a_server_that_stops(
    tmp_path: Path,
) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f"drain_seconds = 1\n{RULES}")
    head = b"POST /v1/score HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{"
    with (
        Process("--config", str(config)) as process,
        socket.create_connection(("127.0.0.1", process.port), timeout=60) as half,
    ):
        half.sendall(head)
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
        process.terminate()
        assert process.wait() == 0
        answer = b""
        while received := half.recv(4_096):
            answer += received
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"draining","retryable":true' in answer
