"""What the tests ask a server, and what they read of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from corpora.conversation import Conversation
from reward_server.protocol import ScoreGroup
from tests.reward_server.faults.process import TIMEOUT


@dataclass(frozen=True)
class Job:
    """One scoring request."""

    group: ScoreGroup
    body: dict[str, Any]

    @property
    def candidates(self) -> int:
        return len(self.group.candidates)


def make_job(*, candidates: int, **fields: Any) -> Job:
    """A request for ``candidates`` answers to one question, all of them different."""
    answers = [f"See a doctor after {days} days of fever, or rest." for days in range(candidates)]
    asked = Conversation.ask("When should I see a doctor about a fever?")
    group = ScoreGroup.of("q1", asked, answers)
    return Job(group, {"groups": [group.model_dump(mode="json")], **fields})


def client(url: str) -> httpx.Client:
    """A client that waits for as long as a test may take."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.Client(base_url=url, timeout=TIMEOUT, limits=limits, trust_env=False)


def measured(http: httpx.Client) -> dict[tuple[str, str], float]:
    """The server's metrics, by name without its prefix and values of the labels."""
    return {
        (sample.name.removeprefix("reward_server_"), ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
    }


def pending_tokens(http: httpx.Client) -> float:
    return measured(http)["pending_tokens", "default"]


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Looks until it has happened.

    Raises:
        AssertionError: if it does not.
    """
    deadline = time.monotonic() + TIMEOUT
    while not happened():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)
