"""Clients that are slow, and clients that are gone before their answer."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from tests.reward_server.faults.load import (
    Job,
    client,
    make_job,
    measured,
    pending_tokens,
    wait_until,
)
from tests.reward_server.faults.process import TIMEOUT, Process

CALLERS = 6


def connect(process: Process, job: Job, *, share: float = 1.0) -> socket.socket:
    """A connection on which that share of a request's body was sent."""
    body = json.dumps(job.body).encode()
    head = (
        "POST /v1/score HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", process.port), timeout=TIMEOUT)
    connection.sendall(head.encode() + body[: int(share * len(body))])
    return connection


def rest(job: Job, *, share: float) -> bytes:
    body = json.dumps(job.body).encode()
    return body[int(share * len(body)) :]


def test_slow_clients_hold_nobody_up_and_are_answered_in_the_end(slow_server: Process) -> None:
    job = make_job(candidates=4)
    slow = [connect(slow_server, job, share=0.5) for _ in range(CALLERS)]
    with client(slow_server.url) as http:
        assert http.post("/v1/score", json=job.body).status_code == 200
        assert pending_tokens(http) == 0
    for connection in slow:
        with connection:
            connection.sendall(rest(job, share=0.5))
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert slow_server.is_running


def test_half_a_request_that_never_comes_to_an_end_is_forgotten(slow_server: Process) -> None:
    with client(slow_server.url) as http:
        before = measured(http)
        for share in (0.0, 0.5, 0.99):
            connect(slow_server, make_job(candidates=4), share=share).close()
        assert http.post("/v1/score", json=make_job(candidates=1).body).status_code == 200
        after = measured(http)
    assert after["candidates_total", ""] == before["candidates_total", ""] + 1
    assert after["pending_tokens", "default"] == 0
    assert slow_server.is_running


@pytest.mark.parametrize("is_rude", [False, True], ids=["closed", "reset"])
def test_what_nobody_waits_for_any_more_is_not_computed(
    slow_server: Process, job: Job, is_rude: bool
) -> None:
    with client(slow_server.url) as http:
        tokens = http.post("/v1/score", json=job.body).json()["usage"]["tokens"]
        before = measured(http)
        gone = [connect(slow_server, job) for _ in range(CALLERS)]
        wait_until(lambda: pending_tokens(http) > (CALLERS - 1) * tokens, "all are admitted")
        at_leave = measured(http)
        for connection in gone:
            if is_rude:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
        wait_until(lambda: pending_tokens(http) == 0, "nothing waits")
        after = measured(http)
        assert http.post("/v1/score", json=job.body).status_code == 200
        assert http.get("/health/ready").status_code == 200
    assert at_leave["pending_tokens", "default"] > (CALLERS - 1) * tokens
    computed = after["batch_tokens_total", "default"] - before["batch_tokens_total", "default"]
    assert computed < CALLERS * tokens / 2
    dropped = "dropped_requests_total", "default"
    assert after[dropped] - before[dropped] == CALLERS
    assert after["candidates_total", ""] == before["candidates_total", ""]
    assert slow_server.is_running
