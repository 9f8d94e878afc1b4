"""Callers of the reward server, blocking and asynchronous.

    with RewardClient("http://127.0.0.1:8100") as client:
        results = client.score([ScoreGroup.of("q1", conversation, ["Saline …", "Antibiotics …"])])

A large job is cut into requests of which ``concurrency`` run side by side. Either every group has
its results, in the order given and all from one fingerprint, or the call raises. When to come back
after a failure is decided in ``exchange``; every wait has a bound.

Imports no torch and no server code beyond the wire types and the errors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from reward_server.errors import RewardServerUnreachable
from reward_server.exchange import (
    Exchange,
    Outcome,
    Pause,
    RetryPolicy,
    exchange,
    join,
    read_model,
    read_scores,
)
from reward_server.protocol import (
    GroupResult,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
)

__all__ = ["AsyncRewardClient", "ClientOptions", "RetryPolicy", "RewardClient"]

READY = "/health/ready"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves."""

    model: str = "default"
    """Name of the reward model on the server."""

    on_overflow: OnOverflow = "error"
    groups_per_request: int = 32
    concurrency: int = 4
    """Requests of one call that are under way together."""

    connect_seconds: float = 5.0
    answer_seconds: float = 600.0
    """Longest silence while the server works on a request; it may be queueing."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.answer_seconds, connect=self.connect_seconds)


class RewardClient:
    """Blocking client; safe to share between threads.

    Args:
        base_url: where the server listens, such as ``http://127.0.0.1:8100``.
        options: limits, retries and the model's name.
        transport: what carries requests, for tests.
        sleep: waits a number of seconds, for tests.

    Raises:
        RewardServerUnreachable: if ``base_url`` is not the URL of a server.
    """

    def __init__(
        self,
        base_url: str,
        options: ClientOptions = ClientOptions(),
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._http = httpx.Client(
            base_url=parse_url(base_url), timeout=options.timeout, transport=transport
        )
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def score(
        self, groups: Sequence[ScoreGroup], *, expected_fingerprint: str | None = None
    ) -> list[GroupResult]:
        """Rewards of all candidates, groups in the order given.

        Raises:
            FingerprintMismatch: if another model is served than expected, or it changed midway.
            RewardServerError: what the server answered instead.
            RewardServerUnreachable: if it does not answer.
        """
        jobs = split(groups, self._options, expected_fingerprint)
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            return join(list(pool.map(self._score, jobs)))

    def model(self) -> ModelInfo:
        """What is served under the model's name: fingerprint, identity, limits.

        Raises:
            UnknownModel: if nothing is.
            RewardServerUnreachable: if the server does not answer.
        """
        return read_model(self._perform(model_exchange(self._http, self._options)))

    def ready(self) -> bool:
        """Whether a scoring request would be answered now."""
        outcome = self._send(self._http.build_request("GET", READY))
        return isinstance(outcome, httpx.Response) and outcome.is_success

    def _score(self, job: ScoreRequest) -> ScoreResponse:
        return read_scores(job, self._perform(score_exchange(self._http, self._options, job)))

    def _perform(self, steps: Exchange) -> httpx.Response:
        effect = next(steps)
        while True:
            outcome = None
            if isinstance(effect, Pause):
                self._sleep(effect.seconds)
            else:
                outcome = self._send(effect)
            try:
                effect = steps.send(outcome)
            except StopIteration as done:
                return _answer(done)

    def _send(self, request: httpx.Request) -> Outcome:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            return error


class AsyncRewardClient:
    """Asynchronous client; arguments, results and errors are those of :class:`RewardClient`."""

    def __init__(
        self,
        base_url: str,
        options: ClientOptions = ClientOptions(),
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = options
        self._http = httpx.AsyncClient(
            base_url=parse_url(base_url), timeout=options.timeout, transport=transport
        )
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def score(
        self, groups: Sequence[ScoreGroup], *, expected_fingerprint: str | None = None
    ) -> list[GroupResult]:
        """As :meth:`RewardClient.score`."""
        jobs = split(groups, self._options, expected_fingerprint)
        slots = asyncio.Semaphore(self._options.concurrency)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._score(job, slots)) for job in jobs]
        except BaseExceptionGroup as failed:
            # The first failure cancelled the others: it is the one that tells what went wrong.
            raise failed.exceptions[0] from None
        return join([task.result() for task in running])

    async def model(self) -> ModelInfo:
        """As :meth:`RewardClient.model`."""
        return read_model(await self._perform(model_exchange(self._http, self._options)))

    async def ready(self) -> bool:
        """As :meth:`RewardClient.ready`."""
        outcome = await self._send(self._http.build_request("GET", READY))
        return isinstance(outcome, httpx.Response) and outcome.is_success

    async def _score(self, job: ScoreRequest, slots: asyncio.Semaphore) -> ScoreResponse:
        async with slots:
            response = await self._perform(score_exchange(self._http, self._options, job))
        return read_scores(job, response)

    async def _perform(self, steps: Exchange) -> httpx.Response:
        effect = next(steps)
        while True:
            outcome = None
            if isinstance(effect, Pause):
                await self._sleep(effect.seconds)
            else:
                outcome = await self._send(effect)
            try:
                effect = steps.send(outcome)
            except StopIteration as done:
                return _answer(done)

    async def _send(self, request: httpx.Request) -> Outcome:
        try:
            return await self._http.send(request)
        except httpx.TransportError as error:
            return error


def split(
    groups: Sequence[ScoreGroup], options: ClientOptions, expected_fingerprint: str | None
) -> list[ScoreRequest]:
    """The requests that make up one job, in order."""
    size = options.groups_per_request
    return [
        ScoreRequest(
            model=options.model,
            groups=tuple(groups[start : start + size]),
            on_overflow=options.on_overflow,
            expected_fingerprint=expected_fingerprint,
        )
        for start in range(0, len(groups), size)
    ]


def score_exchange(
    http: httpx.Client | httpx.AsyncClient, options: ClientOptions, job: ScoreRequest
) -> Exchange:
    """Sends one request of a job."""
    body = job.model_dump_json().encode()
    headers = {"content-type": "application/json"}
    request = http.build_request("POST", "/v1/score", content=body, headers=headers)
    return exchange(request, options.retry)


def model_exchange(http: httpx.Client | httpx.AsyncClient, options: ClientOptions) -> Exchange:
    """Asks for the model's description."""
    return exchange(http.build_request("GET", f"/v1/models/{options.model}"), options.retry)


def parse_url(base_url: str) -> httpx.URL:
    """The URL of a server.

    Raises:
        RewardServerUnreachable: if it is none.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise RewardServerUnreachable(
            f"server: {base_url!r} is not the URL of a server; write it as http://host:port"
        )
    return url


def _answer(done: StopIteration) -> httpx.Response:
    response: httpx.Response = done.value
    return response
