"""Traffic: real requests kept in flight while something happens to the policy server.

A redeploy without downtime is a claim; this is its evidence. No request is retried, so every
failure that a user would have seen is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import Self

from corpora.world import Question
from policy.client import AsyncPolicyClient, SamplingParameters
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable

STREAMS = 4
"""Requests in flight at any moment: enough to overlap a redeploy, few enough not to slow it."""


class Traffic:
    """Samples from ``version`` without pause between entering and leaving the context."""

    def __init__(
        self,
        client: AsyncPolicyClient,
        questions: Sequence[Question],
        parameters: SamplingParameters,
        *,
        version: str,
    ) -> None:
        """Takes a client that does not retry."""
        self.version = version
        """May be changed on the way: later requests go to the new version."""
        self.requests = 0
        self.failed_requests = 0
        self._client = client
        self._questions = questions
        self._parameters = replace(parameters, candidates=1)
        self._is_over = False
        self._first_sent = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._stream(number)) for number in range(STREAMS)]
        await self._first_sent.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _stream(self, number: int) -> None:
        for turn in count(number, STREAMS):
            if self._is_over:
                return
            question = self._questions[turn % len(self._questions)]
            self.requests += 1
            self._first_sent.set()
            try:
                await self._client.sample(
                    question.conversation, self._parameters, version=self.version
                )
            except (PolicyRequestFailed, PolicyServerUnreachable):
                self.failed_requests += 1
