"""A generative judge behind an OpenAI-compatible chat endpoint.

The judge grades one candidate at a time by the rubric of ``rubric``. A candidate's reward is the
mean of its criteria, over all samples; one sample without a verdict and it is ``judge_failed``,
whatever the others said.

What can go wrong between here and the endpoint is bounded: the requests of one verdict by
``attempts``, each request by ``timeout_seconds``, the pauses between them by a budget, and all of
it by the deadline of the call. An endpoint that is away is an error of its candidates, not of the
server. Knows neither how the judge is served nor what it costs.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Literal

import httpx
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from reward_server.errors import DeadlineExceeded, ServerStartError
from reward_server.exchange import RetryPolicy, retry_after
from reward_server.fingerprint import fingerprint
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Call, Scored
from reward_server.scorers.open import OpenScorer
from reward_server.scorers.rubric import (
    CRITERIA,
    Rubric,
    UnreadableVerdict,
    Verdict,
    read_verdict,
)
from reward_server.specs import JudgeSpec

KEEPALIVE_SECONDS = 2.0
"""Idle connections are dropped before vLLM does it (5 s): a request must not meet the closing."""

Outcome = httpx.Response | httpx.RequestError
Again = Literal["never", "at_once", "after_a_pause"]


class JudgeScorer(OpenScorer):
    """Asks a judge for verdicts and makes rewards of them.

    Args:
        name: what the reward model is called.
        spec: endpoint, rubric and limits.
        transport: what carries requests, for tests.
        sleep: waits a number of seconds, for tests.

    Raises:
        ServerStartError: if the URL is none, the key is not in the environment, or the rubric
            cannot be read or lacks a placeholder.
    """

    def __init__(
        self,
        name: str,
        spec: JudgeSpec,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._spec = spec
        self._rubric = read_rubric(spec.rubric)
        super().__init__(describe(name, spec, self._rubric))
        self._url = completions_url(spec.url)
        self._http = httpx.AsyncClient(
            headers=authorization(spec.api_key_env),
            timeout=None,  # _post bounds the whole request, not each of its phases
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
            transport=transport,
        )
        self._policy = RetryPolicy(attempts=spec.attempts)
        self._sleep = sleep
        self._slots = asyncio.Semaphore(spec.concurrency)

    async def aclose(self) -> None:
        await super().aclose()
        await self._http.aclose()

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        """As :meth:`Scorer.score`.

        Raises:
            Draining: if no requests are taken.
            DeadlineExceeded: if the deadline passes before the last verdict is there.
        """
        self.check_open()
        async with _deadline(call):
            readings = await self._ask(groups)
        left = iter(readings)
        return Scored(
            groups=tuple(
                GroupResult(
                    id=group.id, results=tuple(result(next(left)) for _ in group.candidates)
                )
                for group in groups
            ),
            usage=_usage(readings),
        )

    async def _ask(self, groups: Sequence[ScoreGroup]) -> list[list[Reading]]:
        # Every task exists before the first await, so that aclose waits for the whole request.
        async with asyncio.TaskGroup() as tasks:
            running = [
                [
                    tasks.create_task(self._judge(group, candidate, sample))
                    for sample in range(self._spec.samples)
                ]
                for group in groups
                for candidate in group.candidates
            ]
            for task in (task for samples in running for task in samples):
                self.wait_for(task)
        return [[task.result() for task in samples] for samples in running]

    async def _judge(self, group: ScoreGroup, candidate: str, sample: int) -> Reading:
        """One verdict, or the reading of the last request that failed to give it."""
        tokens, waited, requests, unreadable = 0, 0.0, 0, 0
        # The slot is kept during pauses, so that an endpoint that is too busy gets fewer requests.
        async with self._slots:
            prompt = self._rubric.prompt(group, candidate)
            while True:
                # An unreadable verdict would come back with its seed, so it is asked for with one
                # that no other sample uses.
                seed = sample + self._spec.samples * unreadable
                reading = read_answer(await self._post(prompt, seed))
                requests += 1
                tokens += reading.tokens
                pause = pause_after(reading, self._policy, requests=requests, waited=waited)
                if pause is None:
                    return replace(reading, tokens=tokens)
                unreadable += reading.again == "at_once"
                waited += pause
                await self._sleep(pause)

    async def _post(self, prompt: str, seed: int) -> Outcome:
        body = {
            "model": self._spec.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._spec.temperature,
            "max_tokens": self._spec.max_tokens,
            "seed": seed,
        }
        try:
            async with asyncio.timeout(self._spec.timeout_seconds):
                return await self._http.post(self._url, json=body)
        except TimeoutError:
            return httpx.ReadTimeout("no answer in time")
        except httpx.RequestError as error:
            return error


@dataclass(frozen=True, slots=True)
class Reading:
    """What the answer to one request came to: a verdict, or the reason why there is none."""

    verdict: Verdict | None = None
    reason: str = ""
    again: Again = "never"
    """Whether another request may give one."""

    asked_for: float = 0.0
    """Seconds that the endpoint asks to wait."""

    tokens: int = 0
    """What the endpoint says it read and wrote."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _ChatUsage(BaseModel):
    total_tokens: NonNegativeInt = 0


class _ChatAnswer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _ChatUsage | None = None


def read_answer(outcome: Outcome) -> Reading:
    """Reads what came of a request. Never quotes the answer."""
    if isinstance(outcome, httpx.RequestError):
        reason = f"the judge gave no answer ({type(outcome).__name__})"
        return Reading(reason=reason, again="after_a_pause")
    if not outcome.is_success:
        is_passing = outcome.status_code in (408, 429) or outcome.is_server_error
        return Reading(
            reason=f"the judge's endpoint answered {outcome.status_code}",
            again="after_a_pause" if is_passing else "never",
            asked_for=retry_after(outcome),
        )
    try:
        answer = _ChatAnswer.model_validate_json(outcome.content)
    except ValidationError:
        return Reading(reason="the endpoint's answer is no chat completion", again="at_once")
    tokens = answer.usage.total_tokens if answer.usage else 0
    try:
        return Reading(verdict=_verdict(answer.choices[0]), tokens=tokens)
    except UnreadableVerdict as error:
        return Reading(reason=f"unreadable verdict: {error}", again="at_once", tokens=tokens)


def _verdict(choice: _Choice) -> Verdict:
    # In a verdict that was cut, the last object may be one that the judge only quotes.
    if choice.finish_reason == "length":
        raise UnreadableVerdict("it was cut at max_tokens; raise that")
    return read_verdict(choice.message.content or "")


def pause_after(
    reading: Reading, policy: RetryPolicy, *, requests: int, waited: float
) -> float | None:
    """Seconds until the next request for the same verdict; ``None`` if there is none.

    Args:
        reading: what the last request came to.
        policy: limits of requests and pauses.
        requests: how many were sent.
        waited: seconds of the pauses between them.
    """
    if reading.again == "never":
        return None
    if reading.again == "at_once":
        return 0.0 if requests < policy.attempts else None
    return policy.pause(requests, waited=waited, asked_for=reading.asked_for)


def result(samples: Sequence[Reading]) -> CandidateResult:
    """The result of one candidate from the readings of all its samples."""
    verdicts = [reading.verdict for reading in samples if reading.verdict is not None]
    if len(verdicts) < len(samples):
        reason = next(reading.reason for reading in samples if reading.verdict is None)
        error = ItemError(code="judge_failed", detail=reason)
        return CandidateResult(reward=None, tokens=0, error=error)
    rewards = [fmean(verdict.values()) for verdict in verdicts]
    return CandidateResult(
        reward=fmean(rewards),
        tokens=0,
        parts={c.name: fmean(verdict[c.name] for verdict in verdicts) for c in CRITERIA},
        disagreement=pstdev(rewards) if len(rewards) > 1 else None,
    )


def describe(name: str, spec: JudgeSpec, rubric: Rubric) -> ModelInfo:
    """The judge as a reward model. Where it listens does not count, nor how it is reached."""
    identity = Identity(
        kind="judge",
        parameters={
            "model": spec.model,
            "rubric": rubric.sha256,
            "temperature": spec.temperature,
            "samples": spec.samples,
            "max_tokens": spec.max_tokens,
        },
    )
    return ModelInfo(name=name, fingerprint=fingerprint(identity), identity=identity)


def read_rubric(path: Path | None) -> Rubric:
    """The rubric in a file, or the published one.

    Raises:
        ServerStartError: if the file cannot be read or lacks a placeholder.
    """
    if path is None:
        return Rubric()
    try:
        return Rubric(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ServerStartError(
            f"rubric: {path} cannot be read ({error}); give a text file in UTF-8"
        ) from None


def completions_url(base: str) -> httpx.URL:
    """Where chat completions are asked for.

    Raises:
        ServerStartError: if ``base`` is not the URL of an endpoint.
    """
    try:
        url = httpx.URL(f"{base.rstrip('/')}/chat/completions")
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ServerStartError(f"url: {base!r} is no endpoint; write it as http://host:port/v1")
    return url


def authorization(variable: str | None) -> dict[str, str]:
    """The header that carries the key in the environment variable, if one is named.

    Raises:
        ServerStartError: if the variable is not set or empty.
    """
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ServerStartError(f"api_key_env: {variable!r} is not set; put the judge's key there")
    return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def _deadline(call: Call) -> AsyncIterator[None]:
    late = DeadlineExceeded("deadline_ms: it passed before the judge had given every verdict")
    left = call.deadline - time.monotonic()
    if left <= 0:
        raise late
    try:
        async with asyncio.timeout(None if math.isinf(left) else left):
            yield
    except TimeoutError:
        raise late from None


def _usage(readings: Iterable[Sequence[Reading]]) -> Usage:
    tokens = sum(reading.tokens for samples in readings for reading in samples)
    return Usage(tokens=tokens, computed_tokens=tokens)
