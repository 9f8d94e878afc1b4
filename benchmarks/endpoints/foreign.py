"""Another reward server, asked over its own wire.

Requests are cut as the wire can carry them; a bounded number is under way. One that is refused is
halved until what cannot be scored stands alone, as the error of its candidate. A wire names no
model; this project's server does in a header, and is held to it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from benchmarks.endpoints.base import Description, Rewards
from benchmarks.endpoints.wires.asking import Asking
from benchmarks.endpoints.wires.base import DEFAULT, Found, Item, NotRaw, Refused
from benchmarks.errors import BenchmarkError, EvaluationFailed
from benchmarks.posting import NoAnswer, Poster, said
from benchmarks.window import in_order
from corpora.conversation import Conversation
from reward_server.client import FIRST_CONTACT, ClientOptions, RetryPolicy
from reward_server.protocol import ScoreGroup

FINGERPRINT = "x-reward-fingerprint"
"""Header in which this project's server names the model on every wire."""

REFUSALS = frozenset({400, 413, 422, 424, 500})
"""Statuses that are about the input, so that another one may be scored."""

HINTS = {
    401: "give the server's key with --api-key-env",
    403: "give a key that may score with --api-key-env",
    404: "check --server, --wire and --model",
    405: "check --server and --wire",
}

PROBE = ScoreGroup.of(
    "first-contact", Conversation.ask("What helps a stuffy nose?"), ["Saline rinses."]
)
"""What an endpoint is asked first: it shows whether URL, wire, key and model fit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one candidate."""

    reward: float | None = None
    error: str | None = None
    tokens: int = 0


class ForeignEndpoint:
    """A server of another project, or this project's as if it were one.

    Args:
        server: its URL, with or without the wire's path.
        asking: over which wire, for which model.
        options: key, time limits, retries of a job, groups a request, requests under way and the
            fingerprint to hold the server to. Its model is not read: foreign servers have names of
            their own.
        transport: what carries requests, for tests.
        sleep: waits a number of seconds, for tests.

    Raises:
        BenchmarkError: if the URL is none.
    """

    def __init__(
        self,
        server: str,
        asking: Asking,
        options: ClientOptions,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._asking = asking
        self._options = options
        self._url = asking.url(server)
        self._poster = Poster(
            self._url, asking.wire.content_type, options, transport=transport, sleep=sleep
        )
        self._fingerprint = options.expected_fingerprint

    async def describe(self) -> Description:
        """What answers now, found out by having a question and its answer scored.

        Raises:
            BenchmarkError: if that gives no reward.
        """
        try:
            (outcome,) = await self._ask([Item(PROBE, 0)], FIRST_CONTACT)
        except (NoAnswer, NotRaw) as error:
            raise BenchmarkError(str(error)) from None
        if outcome.error is not None:
            raise BenchmarkError(
                f"--wire: {self._url} gives no reward to a short question and its answer "
                f"({outcome.error}); check --wire and --model"
            )
        return Description(model=self._asking.model or DEFAULT, fingerprint=self._fingerprint)

    async def score(self, groups: Iterable[ScoreGroup]) -> AsyncGenerator[Rewards, None]:
        """As :meth:`Endpoint.score`.

        Raises:
            EvaluationFailed: if the server does not answer, refuses everybody, gives no raw
                rewards, or tells that it serves another model than before.
        """

        async def work(items: Sequence[Item]) -> list[tuple[Item, Outcome]]:
            outcomes = await self._ask(items, self._options.retry)
            return list(zip(items, outcomes, strict=True))

        asked = self._asking.cut(groups, self._options.groups_per_request)
        gathered: list[Outcome] = []
        try:
            async with aclosing(in_order(asked, work, width=self._options.concurrency)) as done:
                async for found in done:
                    for item, outcome in found:
                        gathered.append(outcome)
                        if len(gathered) == len(item.group.candidates):
                            yield _rewards(gathered)
                            gathered = []
        except (NoAnswer, NotRaw) as error:
            raise EvaluationFailed(str(error)) from error

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._poster.aclose()

    async def _ask(self, items: Sequence[Item], policy: RetryPolicy) -> list[Outcome]:
        """What became of items that one request can carry."""
        try:
            body = self._asking.body(items)
            return self._read(await self._poster.send(body, policy), len(items))
        except Refused as refusal:
            if len(items) == 1:
                return [Outcome(error=str(refusal))]
        middle = len(items) // 2
        return [
            *await self._ask(items[:middle], policy),
            *await self._ask(items[middle:], policy),
        ]

    def _read(self, response: httpx.Response, count: int) -> list[Outcome]:
        status = response.status_code
        if status in REFUSALS:
            raise Refused(said(response))
        if not response.is_success:
            hint = HINTS.get(status, "check --server and --wire")
            raise NoAnswer(f"server: {self._url} answered {said(response)}; {hint}")
        self._hold(response.headers.get(FINGERPRINT))
        found = self._asking.wire.read(response.content, count)
        if len(found) != count:
            raise Refused(f"malformed_answer: {len(found)} rewards for {count} inputs")
        return [_outcome(each) for each in found]

    def _hold(self, fingerprint: str | None) -> None:
        if fingerprint is None:
            return
        self._fingerprint = self._fingerprint or fingerprint
        if self._fingerprint != fingerprint:
            both = ", ".join(sorted((self._fingerprint, fingerprint)))
            raise NoAnswer(f"the served model changed during the job ({both}); score it again")


def _outcome(found: Found) -> Outcome:
    if found.number is None:
        return Outcome(error="no_reward: the answer has no number for it", tokens=found.tokens)
    if not math.isfinite(found.number):
        return Outcome(
            error=f"non_finite_reward: the answer is {found.number}", tokens=found.tokens
        )
    return Outcome(reward=found.number, tokens=found.tokens)


def _rewards(outcomes: Sequence[Outcome]) -> Rewards:
    return Rewards(
        rewards=tuple(outcome.reward for outcome in outcomes),
        errors=tuple(outcome.error for outcome in outcomes),
        tokens=sum(outcome.tokens for outcome in outcomes),
    )
