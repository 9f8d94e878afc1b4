"""Callers of the reward server, blocking and asynchronous.

    with RewardClient("http://127.0.0.1:8100") as client:
        results = client.score([ScoreGroup.of("q1", conversation, ["Saline …", "Antibiotics …"])])

A large job is cut into requests of which ``concurrency`` run side by side. Either every group has
its results, in the order given and all from one fingerprint, or the call raises; the first failure
ends the others. A job that does not fit in memory goes through ``score_stream``. What is sent is
made in ``requests``; when it is sent again, halved or given up is decided in ``exchange``; every
wait has a bound.

Imports no torch and no server code beyond the wire types and the errors.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import aclosing, closing
from typing import Self, TypeVar

import httpx

from reward_server.exchange import (
    FIRST_CONTACT,
    PATIENCE,
    Assembly,
    Deadline,
    OnRefused,
    Outcome,
    Part,
    Pause,
    RetryPolicy,
    Steps,
    StreamedGroup,
    join,
    read_model,
)
from reward_server.protocol import GroupResult, ModelInfo, ScoreGroup, ScoreRequest
from reward_server.requests import DEFAULTS, ClientOptions, Terms, model_exchange, parse_url

__all__ = [
    "FIRST_CONTACT",
    "PATIENCE",
    "AsyncRewardClient",
    "ClientOptions",
    "RetryPolicy",
    "RewardClient",
    "StreamedGroup",
]

READY = "/health/ready"

WINDOW = 2
"""Requests that are begun and not yet given to the caller, for each one that may be under way:
a slow answer must not leave the server idle, nor a fast server fill the memory."""

T = TypeVar("T")
F = TypeVar("F", bound="Future[list[Part]] | asyncio.Task[list[Part]]")


class _Caller:
    """What both clients can say without asking anybody."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._pinned = options.expected_fingerprint

    @property
    def options(self) -> ClientOptions:
        return self._options

    @property
    def pinned(self) -> str | None:
        """The fingerprint that this client insists on; ``None`` while it takes any."""
        return self._pinned


class RewardClient(_Caller):
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
        options: ClientOptions = DEFAULTS,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(options)
        self._http = httpx.Client(
            base_url=parse_url(base_url),
            headers=options.headers,
            timeout=options.timeout,
            transport=transport,
        )
        self._sleep = sleep
        self._pinning = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
            DeadlineExceeded: if there are no rewards within the options' ``deadline_seconds``.
            RewardServerError: what the server answered instead.
            RewardServerUnreachable: if it does not answer.
        """
        if not groups:
            return []
        deadline = Deadline.after(self._options.deadline_seconds)
        terms = Terms(self._options, self._expected(expected_fingerprint), deadline)
        with closing(self._run(terms.requests(groups), terms)) as answers:
            return join(part for parts in answers for part in parts)

    def score_stream(
        self,
        groups: Iterable[ScoreGroup],
        *,
        expected_fingerprint: str | None = None,
        on_refused: OnRefused = "raise",
    ) -> Generator[StreamedGroup, None, None]:
        """Rewards of a job of any length, group by group in the order given.

        ``groups`` is read as far as ``2 * concurrency`` requests ahead. Leave the stream early by
        closing it (``contextlib.closing``); that waits for the answers that are under way, since a
        thread cannot be interrupted. :class:`AsyncRewardClient` drops them at once.

        Args:
            groups: what to score; read from this thread.
            expected_fingerprint: the model that must answer.
            on_refused: what to do about a group that the server refuses, such as one that is too
                long: end the stream, or give its error in the group's place.

        Raises:
            RewardServerError, RewardServerUnreachable: as :meth:`score`; the first failure ends
                the stream, and what was begun behind it is dropped.
        """
        expected = self._expected(expected_fingerprint)
        terms = Terms(self._options, expected, on_refused=on_refused)
        assembly = Assembly()
        with closing(self._run(terms.requests(groups), terms)) as answers:
            for parts in answers:
                for part in parts:
                    yield from assembly.add(part)

    def model(self) -> ModelInfo:
        """What is served under the model's name: fingerprint, identity, limits.

        Raises:
            UnknownModel: if nothing is.
            RewardServerUnreachable: if the server does not answer.
        """
        steps = model_exchange(self._http, self._options)
        return read_model(self._perform(steps, threading.Event()))

    def ready(self) -> bool:
        """Whether a scoring request would be answered now."""
        outcome = self._send(self._http.build_request("GET", READY))
        return isinstance(outcome, httpx.Response) and outcome.is_success

    def _expected(self, given: str | None) -> str | None:
        if given is not None or self._pinned is not None or not self._options.pin:
            return given or self._pinned
        with self._pinning:
            if self._pinned is None:
                self._pinned = self.model().fingerprint
        return self._pinned

    def _run(self, jobs: Iterator[ScoreRequest], terms: Terms) -> Generator[list[Part], None, None]:
        window: deque[Future[list[Part]]] = deque()
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._options.concurrency)

        def begin(job: ScoreRequest) -> Future[list[Part]]:
            return pool.submit(lambda: self._perform(terms.score_exchange(self._http, job), stop))

        try:
            while fill(window, jobs, begin, self._options.concurrency):
                while not window[0].done():
                    pending = unfinished(window)
                    raise_failure(window)
                    wait(pending, return_when=FIRST_COMPLETED)
                yield window.popleft().result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _perform(self, steps: Steps[T], stop: threading.Event) -> T:
        effect = next(steps)
        while not stop.is_set():
            outcome = None
            if isinstance(effect, Pause):
                self._pause(effect.seconds, stop)
            else:
                outcome = self._send(effect)
            try:
                effect = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
        raise CancelledError  # another request of the call failed: nobody waits for this one

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        if self._sleep is time.sleep:
            stop.wait(seconds)
        else:
            self._sleep(seconds)

    def _send(self, request: httpx.Request) -> Outcome:
        try:
            return self._http.send(request)
        except httpx.RequestError as error:
            return error


class AsyncRewardClient(_Caller):
    """Asynchronous client; arguments, results and errors are those of :class:`RewardClient`."""

    def __init__(
        self,
        base_url: str,
        options: ClientOptions = DEFAULTS,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(options)
        self._http = httpx.AsyncClient(
            base_url=parse_url(base_url),
            headers=options.headers,
            timeout=options.timeout,
            transport=transport,
        )
        self._sleep = sleep
        self._pinning = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def score(
        self, groups: Sequence[ScoreGroup], *, expected_fingerprint: str | None = None
    ) -> list[GroupResult]:
        """As :meth:`RewardClient.score`."""
        if not groups:
            return []
        deadline = Deadline.after(self._options.deadline_seconds)
        terms = Terms(self._options, await self._expected(expected_fingerprint), deadline)
        async with aclosing(self._run(terms.requests(groups), terms)) as answers:
            return join([part async for parts in answers for part in parts])

    async def score_stream(
        self,
        groups: Iterable[ScoreGroup],
        *,
        expected_fingerprint: str | None = None,
        on_refused: OnRefused = "raise",
    ) -> AsyncGenerator[StreamedGroup, None]:
        """As :meth:`RewardClient.score_stream`; close it with ``contextlib.aclosing``."""
        expected = await self._expected(expected_fingerprint)
        terms = Terms(self._options, expected, on_refused=on_refused)
        assembly = Assembly()
        async with aclosing(self._run(terms.requests(groups), terms)) as answers:
            async for parts in answers:
                for part in parts:
                    for group in assembly.add(part):
                        yield group

    async def model(self) -> ModelInfo:
        """As :meth:`RewardClient.model`."""
        return read_model(await self._perform(model_exchange(self._http, self._options)))

    async def ready(self) -> bool:
        """As :meth:`RewardClient.ready`."""
        outcome = await self._send(self._http.build_request("GET", READY))
        return isinstance(outcome, httpx.Response) and outcome.is_success

    async def _expected(self, given: str | None) -> str | None:
        if given is not None or self._pinned is not None or not self._options.pin:
            return given or self._pinned
        async with self._pinning:
            if self._pinned is None:
                self._pinned = (await self.model()).fingerprint
        return self._pinned

    async def _run(
        self, jobs: Iterator[ScoreRequest], terms: Terms
    ) -> AsyncGenerator[list[Part], None]:
        window: deque[asyncio.Task[list[Part]]] = deque()
        slots = asyncio.Semaphore(self._options.concurrency)

        async def score(job: ScoreRequest) -> list[Part]:
            async with slots:
                return await self._perform(terms.score_exchange(self._http, job))

        def begin(job: ScoreRequest) -> asyncio.Task[list[Part]]:
            return asyncio.create_task(score(job))

        try:
            while fill(window, jobs, begin, self._options.concurrency):
                while not window[0].done():
                    pending = unfinished(window)
                    raise_failure(window)
                    await asyncio.wait(pending, return_when=FIRST_COMPLETED)
                yield window.popleft().result()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def _perform(self, steps: Steps[T]) -> T:
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
                answer: T = done.value
                return answer

    async def _send(self, request: httpx.Request) -> Outcome:
        try:
            return await self._http.send(request)
        except httpx.RequestError as error:
            return error


def fill(
    window: deque[F], jobs: Iterator[ScoreRequest], begin: Callable[[ScoreRequest], F], width: int
) -> bool:
    """Begins requests while the window has room; whether there is any left to wait for."""
    while len(window) < WINDOW * width:
        job = next(jobs, None)
        if job is None:
            break
        window.append(begin(job))
    return bool(window)


def unfinished(window: Iterable[F]) -> list[F]:
    """What to wait for; taken before a look for failures, so that none falls in between."""
    return [request for request in window if not request.done()]


def raise_failure(window: Iterable[F]) -> None:
    """Raises what the first failed request failed with, if any did."""
    for request in window:
        if request.done() and (error := request.exception()):
            raise error
