"""A reward model in this process: sequence classification, the engine of the reward server.

Groups are cut into slices of many batches, so that the engine is fed as by a server, while memory
holds two slices whatever the job's length: the worker begins the second as soon as the first is
done, and not when its rewards have been taken. A slice is also what a killed job loses.

One thread loads and computes everything. Each further thread on which torch computes would keep a
team of helpers of its own, and forward passes would take half as long again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.endpoints.base import Description, Rewards
from benchmarks.endpoints.outcomes import of_results, refused
from benchmarks.window import in_order
from reward_server.errors import DeviceOutOfMemory, RewardServerError
from reward_server.protocol import OnOverflow, ScoreGroup
from reward_server.specs import TransformerSpec

if TYPE_CHECKING:
    from reward_server.local import LocalScorer

SLICE_BATCHES = 8
"""Batches of a slice. Only its last one is not full."""

CHARACTERS_PER_TOKEN = 4
"""About; a slice is cut before its tokens are known."""

R = TypeVar("R")


class LocalEndpoint:
    """A model's folder; it is loaded when it is first needed.

    Args:
        folder: the model's.
        spec: precision, length and batches.
        on_overflow: whether an input that is too long is refused or loses its beginning.
    """

    def __init__(
        self, folder: Path, spec: TransformerSpec, *, on_overflow: OnOverflow = "error"
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._on_overflow = on_overflow
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-endpoint")
        self._scorer: LocalScorer | None = None

    async def describe(self) -> Description:
        """The model, loaded.

        Raises:
            ServerStartError: naming what of it cannot be used, and the fix.
        """
        info = (await self._on_worker(self._loaded)).info
        return Description(
            model=self._folder.name,
            fingerprint=info.fingerprint,
            kind=info.identity.kind,
            software=info.software,
        )

    async def score(self, groups: Iterable[ScoreGroup]) -> AsyncGenerator[Rewards, None]:
        """As :meth:`Endpoint.score`.

        Raises:
            ServerStartError: as :meth:`describe`.
        """
        characters = await self._on_worker(self._slice_characters)

        async def work(piece: Sequence[ScoreGroup]) -> list[Rewards]:
            return await self._on_worker(lambda: self._score(piece))

        async with aclosing(in_order(slices(groups, characters), work, width=1)) as scored:
            async for rewards in scored:
                for each in rewards:
                    yield each

    async def aclose(self) -> None:
        """Lets go of the model when the slice that is under way has been computed."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        self._scorer = None

    async def _on_worker(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _loaded(self) -> LocalScorer:
        from reward_server.local import LocalScorer  # noqa: PLC0415 - imports torch

        if self._scorer is None:
            self._scorer = LocalScorer(self._folder, self._spec)
        return self._scorer

    def _slice_characters(self) -> int:
        from reward_server.local import BATCH_TOKENS  # noqa: PLC0415 - imports torch

        device = self._loaded().info.device
        assert device is not None
        batch_tokens = self._spec.max_batch_tokens or BATCH_TOKENS[device]
        return SLICE_BATCHES * batch_tokens * CHARACTERS_PER_TOKEN

    def _score(self, groups: Sequence[ScoreGroup]) -> list[Rewards]:
        """Halves what cannot be scored, until each group that cannot stands alone."""
        try:
            scored = self._loaded().score(groups, on_overflow=self._on_overflow)
            return [of_results(group.results) for group in scored]
        except (RewardServerError, DeviceOutOfMemory) as error:
            if len(groups) == 1:
                return [refused(_reason(error), candidates=len(groups[0].candidates))]
        middle = len(groups) // 2
        return [*self._score(groups[:middle]), *self._score(groups[middle:])]


def slices(groups: Iterable[ScoreGroup], characters: int) -> Iterator[tuple[ScoreGroup, ...]]:
    """Runs of groups that have ``characters`` or just above, read as they are asked for.

    Counted is what has to be rendered: each conversation once a candidate.
    """
    piece: list[ScoreGroup] = []
    size = 0
    for group in groups:
        piece.append(group)
        conversation = sum(len(message.content) for message in group.messages)
        size += sum(conversation + len(candidate) for candidate in group.candidates)
        if size >= characters:
            yield tuple(piece)
            piece, size = [], 0
    if piece:
        yield tuple(piece)


def _reason(error: RewardServerError | DeviceOutOfMemory) -> str:
    if isinstance(error, DeviceOutOfMemory):
        return f"out_of_memory: {error}"
    return f"{error.code}: {error}"
