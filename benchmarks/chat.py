"""A client of any OpenAI-compatible chat endpoint: a judge that is asked in words.

A request that met a busy or broken endpoint is sent again; what stays without an answer is an
error, never an empty text. Every wait has a bound. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from benchmarks.errors import BenchmarkError
from benchmarks.posting import AGAIN, NoAnswer, Poster
from corpora.conversation import Conversation
from foundation.errors import JobError
from reward_server.client import PATIENCE, ClientOptions, RetryPolicy

CONNECT_SECONDS = 5.0

BROKEN = AGAIN | {500}
"""Statuses after which the same question may be answered later. Of reward servers 500 is none: some
say so of an input that they cannot score."""

REFUSALS = frozenset({400, 413, 422})
"""Statuses that are about the one request."""


class ChatFailed(JobError):
    """An endpoint gave no usable answer, retries included. Never quotes what was asked."""

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal
        """Whether it concerns this one request, and the endpoint may answer others."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class ChatClient:
    """Asks one model; use it as an async context manager.

    Args:
        base_url: the endpoint with its version, such as ``http://127.0.0.1:8000/v1``.
        model: what the endpoint calls the model.
        api_key: sent as a bearer token.
        concurrency: requests under way together.
        answer_seconds: what one attempt may take.
        retry: when to try again.
        transport: what carries requests, for tests.
        sleep: waits a number of seconds, for tests.

    Raises:
        BenchmarkError: if ``base_url`` is not the URL of an endpoint.
    """

    def __init__(  # noqa: PLR0913 - all but the first two have defaults
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        answer_seconds: float = 120.0,
        retry: RetryPolicy = PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        url = _url(base_url)
        self.model = model
        self._slots = asyncio.Semaphore(concurrency)
        self._retry = retry
        options = ClientOptions(
            api_key=api_key, answer_seconds=answer_seconds, connect_seconds=CONNECT_SECONDS
        )
        self._url = url
        self._poster = Poster(url, "application/json", options, transport=transport, sleep=sleep)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._poster.aclose()

    async def ask(
        self,
        conversation: Conversation,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The text of one answer.

        Raises:
            ChatFailed: if the endpoint refuses, is out of reach, or cut the answer at
                ``max_tokens``: half an answer may say the opposite of the whole.
        """
        body = {
            "model": self.model,
            "messages": conversation.to_dicts(),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        async with self._slots:
            response = await self._post(json.dumps(body).encode())
        try:
            choice = _Answer.model_validate_json(response.content).choices[0]
        except ValidationError:
            raise ChatFailed(f"{self._url}: the answer is no chat completion") from None
        if choice.finish_reason == "length":
            raise ChatFailed(
                f"the answer was cut at max_tokens {max_tokens}; raise it", is_refusal=True
            )
        return choice.message.content or ""

    async def _post(self, content: bytes) -> httpx.Response:
        try:
            response = await self._poster.send(content, self._retry, again=BROKEN)
        except NoAnswer as error:
            raise ChatFailed(str(error)) from error
        if response.is_success:
            return response
        status = response.status_code
        raise ChatFailed(f"{self._url}: answered {status}", is_refusal=status in REFUSALS)


def _url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise BenchmarkError(f"judge: {base_url!r} is no endpoint; write it as http://host:port/v1")
    return url
