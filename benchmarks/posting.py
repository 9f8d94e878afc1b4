"""Bodies to one URL, each sent until somebody answers it or patience ends.

Knows nothing of wires: what an answer says is for whoever asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set

import httpx

from reward_server.client import ClientOptions, RetryPolicy

AGAIN = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may succeed later."""

KEEPALIVE_SECONDS = 2.0
"""Idle connections are dropped before vLLM does it (5 s): a request must not meet the closing."""

Outcome = httpx.Response | httpx.RequestError


class NoAnswer(Exception):
    """The endpoint does not answer, or not as one that gives rewards. The message is one line."""


class Poster:
    """Posts to ``url``; scoring changes nothing there, so a lost request is safe to repeat.

    Args:
        url: the whole of it.
        content_type: of all bodies.
        options: key and time limits.
        transport: what carries requests, for tests.
        sleep: waits a number of seconds.
    """

    def __init__(
        self,
        url: httpx.URL,
        content_type: str,
        options: ClientOptions,
        *,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._url = url
        self._http = httpx.AsyncClient(
            headers={**options.headers, "content-type": content_type},
            timeout=options.timeout,
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
            transport=transport,
        )
        self._sleep = sleep

    async def send(
        self, content: bytes, policy: RetryPolicy, *, again: Set[int] = AGAIN
    ) -> httpx.Response:
        """The answer to a body, whatever its status, unless that is one of ``again``.

        A request that ran into the time limit of its answer is not repeated: the server is still
        busy with it.

        Raises:
            NoAnswer: if there is none within ``policy``.
        """
        waited, attempt = 0.0, 0
        while True:
            attempt += 1
            outcome = await self._attempt(content)
            if isinstance(outcome, httpx.Response) and outcome.status_code not in again:
                return outcome
            seconds = policy.pause(attempt, waited=waited, asked_for=retry_after(outcome))
            if seconds is None or isinstance(outcome, httpx.ReadTimeout):
                raise NoAnswer(self._failure(outcome))
            await self._sleep(seconds)
            waited += seconds

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def _attempt(self, content: bytes) -> Outcome:
        try:
            return await self._http.post(self._url, content=content)
        except httpx.RequestError as error:
            return error

    def _failure(self, outcome: Outcome) -> str:
        if isinstance(outcome, httpx.Response):
            return f"server: {self._url} answered {said(outcome)}; try again when it has recovered"
        reason = str(outcome) or type(outcome).__name__
        return f"server: no answer from {self._url} ({reason}); give the URL of one that runs"


def retry_after(outcome: Outcome) -> float:
    """Seconds that an answer asks to wait; 0 where it asks for none or names a date."""
    header = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(header) if header.isdecimal() else 0.0


def said(response: httpx.Response) -> str:
    """Status of a refusal with the server's own reason, in one line.

    Reads problem documents (``code``, ``detail``) and what the wires' servers write instead:
    ``{"error": {"message": …}}``, ``{"message": …}``, ``{"error": …}``, ``{"detail": …}``.
    """
    code, reason = f"http_{response.status_code}", response.text
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        code = body["code"] if isinstance(body.get("code"), str) else code
        inner = body.get("error")
        told = inner if isinstance(inner, dict) else body
        reason = str(told.get("detail") or told.get("message") or inner or reason)
    return f"{code}: {' '.join(reason.split())[:200]}"
