"""A client of the policy server: sampling, scoring of given tokens, adapters.

Requests that draw, score or look are repeated while the server is out of reach, restarting or too
busy. Draws are seeded, so a repetition gives the same answer, as far as rounding that depends on
what else is in the batch lets it. Requests that change what is served are sent once: after a lost
answer, a second one would fail for the wrong reason.

Imports no torch, vllm or ray. Does not know who starts the server, nor what a good adapter is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from corpora.conversation import Conversation
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable
from policy.protocol import (
    BASE,
    Candidate,
    ChatAnswer,
    CompletionAnswer,
    ContinuedAnswer,
    FinishReason,
    ModelsAnswer,
    SampledGroup,
    SamplingParameters,
    TokenizeAnswer,
    chat_request,
    common_length,
    continuation_request,
    load_request,
    logprobs_request,
    tokenize_request,
)

__all__ = [
    "BASE",
    "AsyncPolicyClient",
    "Candidate",
    "FinishReason",
    "SampledGroup",
    "SamplingParameters",
]

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 5.0

KEEPALIVE_SECONDS = 2.0
"""Idle connections are dropped before vLLM does it (5 s): a request must not meet the closing."""

T = TypeVar("T")


class AsyncPolicyClient:
    """Talks to one policy server; use it as an async context manager, or call :meth:`aclose`.

    Args:
        base_url: the server, for example ``http://127.0.0.1:8000``.
        request_timeout_seconds: what one attempt may take until its answer is complete.
        retry_budget_seconds: what all pauses between the attempts of one request may add up to;
            the default outlasts a restart of the server.
        max_connections: requests in flight; more wait here. Keep it above the caller's window.
        transport: another way to send requests, for tests.
        sleep: another way to pause, for tests.

    Attributes:
        failed_requests: draws and scores that failed for good, since the client was made.
    """

    def __init__(
        self,
        base_url: str,
        *,
        request_timeout_seconds: float = 600.0,
        retry_budget_seconds: float = 120.0,
        max_connections: int = 512,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.failed_requests = 0
        self._retry_budget_seconds = retry_budget_seconds
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=httpx.Timeout(request_timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            limits=httpx.Limits(
                max_connections=max_connections, keepalive_expiry=KEEPALIVE_SECONDS
            ),
            transport=transport,
            trust_env=False,  # the server is on loopback: a proxy could only break the way there
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections; requests in flight fail."""
        await self._http.aclose()

    async def sample(
        self, conversation: Conversation, parameters: SamplingParameters, *, version: str
    ) -> SampledGroup:
        """Draws candidates from one policy version.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused, for example an unknown version.
        """
        body = chat_request(conversation, parameters, version=version)
        return await self._draw(
            "/v1/chat/completions",
            body,
            lambda answer: ChatAnswer.model_validate_json(answer).to_group(
                version=version, seed=parameters.seed
            ),
        )

    async def token_logprobs(
        self, prompt_token_ids: Sequence[int], response_token_ids: Sequence[int], *, version: str
    ) -> tuple[float, ...]:
        """The natural logarithm of each response token's probability, given all before it.

        Both together must be shorter than the model's longest sequence by at least one token.

        Raises:
            ValueError: if one of them is empty.
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused.
        """
        if not prompt_token_ids or not response_token_ids:
            raise ValueError("prompt_token_ids, response_token_ids: neither may be empty")
        body = logprobs_request([*prompt_token_ids, *response_token_ids], version=version)
        return await self._draw(
            "/v1/completions",
            body,
            lambda answer: CompletionAnswer.model_validate_json(answer).to_logprobs(
                response_token_ids
            ),
        )

    async def continuation_logprobs(
        self,
        conversation: Conversation,
        continuations: Sequence[str],
        *,
        lead: str = "",
        version: str,
    ) -> tuple[tuple[float, ...], ...]:
        """How likely a response goes on with each of these texts: logprobs token by token.

        Where the tokenizer joins the end of what stands before with the beginning of a text, the
        logprobs of all texts begin with that token, so that their sums stay comparable.

        Args:
            conversation: what is answered.
            continuations: the texts, none empty.
            lead: what the response begins with, before each of them.
            version: the policy version.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused.
        """
        assert all(continuations), "an empty text has no tokens"
        before = await self._draw(
            "/tokenize",
            tokenize_request(conversation, lead, version=version),
            TokenizeAnswer.model_validate_json,
        )
        answers = [
            await self._draw(
                "/v1/chat/completions",
                continuation_request(conversation, lead + text, version=version),
                _read_continued,
            )
            for text in continuations
        ]
        start = min(common_length(before.tokens, answer.prompt_token_ids) for answer in answers)
        return tuple(answer.logprobs_from(start) for answer in answers)

    async def versions(self) -> tuple[str, ...]:
        """Everything that is served, the base first.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
        """
        return (await self.models()).versions

    async def models(self) -> ModelsAnswer:
        """What is served, where each version was loaded from, and how long its context is.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
        """
        response = await self._send_patiently("GET", "/v1/models")
        return _read("/v1/models", response, ModelsAnswer.model_validate_json)

    async def load_adapter(self, version: str, path: Path) -> None:
        """Loads an adapter folder under a name that is not served yet.

        The server reads the folder again whenever it has dropped the adapter from memory, so it
        must stay where it is.

        Raises:
            PolicyServerUnreachable: if there is no connection.
            PolicyRequestFailed: if the name is taken, or the folder cannot be loaded.
        """
        await self._send("POST", "/v1/load_lora_adapter", load_request(version, path))

    async def unload_adapter(self, version: str) -> None:
        """Stops serving an adapter; what it is answering already is finished.

        Raises:
            PolicyServerUnreachable: if there is no connection.
            PolicyRequestFailed: if no adapter has that name.
        """
        await self._send("POST", "/v1/unload_lora_adapter", {"lora_name": version})

    async def ready(self) -> bool:
        """Whether the server answers and its engine is alive; asked once."""
        try:
            return (await self._http.get("/health")).is_success
        except httpx.RequestError:
            return False

    async def _draw(self, path: str, body: Mapping[str, Any], read: Callable[[bytes], T]) -> T:
        try:
            return _read(path, await self._send_patiently("POST", path, body), read)
        except (PolicyServerUnreachable, PolicyRequestFailed):
            self.failed_requests += 1
            raise

    async def _send_patiently(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        for delay in retry_delays(self._retry_budget_seconds):
            try:
                return await self._send(method, path, body)
            except (PolicyServerUnreachable, PolicyRequestFailed) as error:
                if not is_transient(error):
                    raise
            await self._sleep(delay)
        return await self._send(method, path, body)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.ConnectTimeout as error:
            raise PolicyServerUnreachable(self.base_url, "no connection in time") from error
        except httpx.TimeoutException as error:
            detail = f"no answer in time ({type(error).__name__})"
            raise PolicyRequestFailed(f"{path}: {detail}") from error
        except httpx.RequestError as error:
            raise PolicyServerUnreachable(
                self.base_url, str(error) or type(error).__name__
            ) from error
        if response.is_error:
            raise _failed(path, response, _detail(response))
        return response


def is_transient(error: PolicyServerUnreachable | PolicyRequestFailed) -> bool:
    """Whether the same request may succeed a little later.

    So it is when the connection failed or broke, when the server is too busy, and when it failed by
    itself. A refusal stays one, and an answer that took too long would only add to the load.
    """
    if isinstance(error, PolicyServerUnreachable):
        return True
    return error.status is not None and (error.status == 429 or error.status >= 500)


def retry_delays(budget_seconds: float) -> Iterator[float]:
    """Pauses that double up to the longest and never add up to more than the budget."""
    delay = FIRST_DELAY_SECONDS
    while delay <= budget_seconds:
        yield delay
        budget_seconds -= delay
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)


def _read(path: str, response: httpx.Response, read: Callable[[bytes], T]) -> T:
    try:
        return read(response.content)
    except (ValueError, LookupError) as error:
        raise _failed(path, response, f"an answer that does not fit: {error}") from error


def _read_continued(content: bytes) -> ContinuedAnswer:
    answer = ContinuedAnswer.model_validate_json(content)
    answer.logprobs_from(1)  # the first token has none
    return answer


def _failed(path: str, response: httpx.Response, detail: str) -> PolicyRequestFailed:
    status = response.status_code
    return PolicyRequestFailed(f"{path}: {status}: {' '.join(detail.split())}", status=status)


def _detail(response: httpx.Response) -> str:
    """The server's own words, where it gives them in OpenAI's error format."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text[:500] or response.reason_phrase
