"""This project's own wire, ``POST /v1/score``: groups whole, errors candidate by candidate."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace

import httpx

from benchmarks.endpoints.base import Description, Rewards
from benchmarks.endpoints.outcomes import of_results, refused
from benchmarks.errors import BenchmarkError, EvaluationFailed
from reward_server.client import (
    FIRST_CONTACT,
    AsyncRewardClient,
    ClientOptions,
    StreamedGroup,
)
from reward_server.errors import (
    Forbidden,
    RewardServerError,
    RewardServerUnreachable,
    Unauthorized,
    UnknownModel,
)
from reward_server.protocol import Kind, ScoreGroup

COMPARING: frozenset[Kind] = frozenset({"pairwise", "judge", "ensemble"})
"""Kinds of reward that may look at a group's other candidates: an ensemble's members may."""

FLAGS: dict[type[RewardServerError], str] = {
    Forbidden: "--api-key-env",
    Unauthorized: "--api-key-env",
    UnknownModel: "--model",
}
"""What to check after a refusal at first contact."""


class NativeEndpoint:
    """A reward server, held to the model that answered first.

    Args:
        url: where it listens.
        options: the model's name, limits and retries of a job.
        transport: what carries requests, for tests.

    Raises:
        RewardServerUnreachable: if ``url`` is not the URL of a server.
    """

    def __init__(
        self,
        url: str,
        options: ClientOptions,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = AsyncRewardClient(url, replace(options, pin=True), transport=transport)
        first = replace(options, retry=FIRST_CONTACT)
        self._greeter = AsyncRewardClient(url, first, transport=transport)
        self._fingerprint = options.expected_fingerprint

    async def describe(self) -> Description:
        """What is served now under the model's name.

        Raises:
            BenchmarkError: if it knows no such model, or not the key.
            RewardServerError, RewardServerUnreachable: what the server said instead, if anything.
        """
        try:
            info = await self._greeter.model()
        except (Forbidden, Unauthorized, UnknownModel) as error:
            raise BenchmarkError(f"{error}; check {FLAGS[type(error)]}") from None
        self._fingerprint = self._fingerprint or info.fingerprint
        return Description(
            model=info.name,
            fingerprint=info.fingerprint,
            kind=info.identity.kind,
            sees_rivals=info.identity.kind in COMPARING,
            software=info.software,
        )

    async def score(self, groups: Iterable[ScoreGroup]) -> AsyncGenerator[Rewards, None]:
        """As :meth:`Endpoint.score`.

        Raises:
            EvaluationFailed: if the server does not answer, fails, or serves another model.
        """
        widths: deque[int] = deque()
        stream = self._client.score_stream(
            _noting_widths(groups, widths),
            expected_fingerprint=self._fingerprint,
            on_refused="keep",
        )
        try:
            async with aclosing(stream) as scored:
                async for each in scored:
                    yield _rewards(each, candidates=widths.popleft())
        except (RewardServerError, RewardServerUnreachable) as error:
            raise EvaluationFailed(str(error)) from error

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._client.aclose()
        await self._greeter.aclose()


def _noting_widths(groups: Iterable[ScoreGroup], widths: deque[int]) -> Iterator[ScoreGroup]:
    """The groups; a refusal does not tell how many candidates it is about."""
    for group in groups:
        widths.append(len(group.candidates))
        yield group


def _rewards(scored: StreamedGroup, *, candidates: int) -> Rewards:
    if isinstance(scored.outcome, RewardServerError):
        return refused(f"{scored.outcome.code}: {scored.outcome}", candidates=candidates)
    return of_results(scored.outcome.results)
