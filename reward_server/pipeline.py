"""One model on the device, from groups to numbers: render off the loop, look up, batch, compute.

Order of a request: refused at once while the queue is full; rendered on a thread of its own, so
that the queue knows exact lengths; admitted as a whole or not at all; computed. Knows nothing of
what the numbers mean: the scorers do.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from reward_server.batcher import Batcher
from reward_server.cache import RewardCache
from reward_server.errors import Overloaded
from reward_server.protocol import EngineName, ItemError
from reward_server.rendering import Renderer
from reward_server.scorer import Call
from reward_server.tokens import Labels, TokenInput, distinct

RENDER_THREADS = min(4, os.cpu_count() or 1)
CHARACTERS_A_TOKEN = 8
"""More than a token of any language has on average: texts that wait to be rendered are bounded by
this many characters for each token that may wait."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of the inputs of one request, in their order."""

    labels: list[Labels | ItemError]
    computed_tokens: int
    cached: int
    seconds: dict[str, float]


class Pipeline:
    """Renderers, cache and batcher of one model."""

    def __init__(
        self,
        batcher: Batcher,
        new_renderer: Callable[[], Renderer],
        *,
        fingerprint: str,
        cache: RewardCache,
        max_pending_tokens: int,
    ) -> None:
        self.batcher = batcher
        self._cache = cache
        self._fingerprint = fingerprint
        self._threads = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="render")
        self._new_renderer = new_renderer
        self._local = threading.local()
        self._max_characters = max_pending_tokens * CHARACTERS_A_TOKEN
        self._characters = 0

    @property
    def engine(self) -> EngineName:
        """Which way the inputs are computed."""
        return self.batcher.engine.name

    def start(self) -> None:
        """Starts the batcher's thread."""
        self.batcher.start()

    async def aclose(self) -> None:
        """Finishes what was admitted."""
        await self.batcher.aclose()
        self._threads.shutdown(wait=False)

    async def render(
        self, work: Callable[[Renderer], T], *, characters: int, unshared: int | None = None
    ) -> T:
        """Calls ``work`` with a renderer, on a thread.

        Args:
            work: renders a request.
            characters: of all texts to render.
            unshared: the same with every shared text counted once.

        Raises:
            Overloaded: if the queue has no room for even the fewest tokens that the texts can
                become, or if too much text waits to be rendered. Rendering what will be refused
                anyway would take the time from what was admitted.
        """
        least = (characters if unshared is None else unshared) // CHARACTERS_A_TOKEN
        self.batcher.check_room(least)
        if self._characters and self._characters + characters > self._max_characters:
            raise Overloaded("too much text waits to be rendered; come back later", retry_after=1)
        self._characters += characters
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: work(self._renderer())
            )
        finally:
            self._characters -= characters

    def _renderer(self) -> Renderer:
        renderer: Renderer | None = getattr(self._local, "renderer", None)
        if renderer is None:
            renderer = self._local.renderer = self._new_renderer()
        return renderer

    async def compute(self, inputs: Sequence[TokenInput], call: Call) -> Outcomes:
        """The numbers of ``inputs``, from the cache or the device.

        Raises:
            Overloaded: if they find no room in the queue.
            DeadlineExceeded: if the call's deadline passes.
            DeviceFailed: if the device dies.
        """
        started = time.perf_counter()
        call.on_tokens(sum(len(item.ids) for item in inputs))
        known = [
            self._cache.get(self._fingerprint, item) if call.uses_cache else None for item in inputs
        ]
        missing = [index for index, labels in enumerate(known) if labels is None]
        outcomes: list[Labels | ItemError] = [() if labels is None else labels for labels in known]
        if not missing:
            seconds = {"wait": time.perf_counter() - started, "forward": 0.0}
            return Outcomes(outcomes, 0, len(inputs), seconds)
        once, places = distinct([inputs[index] for index in missing])
        computed = await self.batcher.run(once, call)
        for index, place in zip(missing, places, strict=True):
            outcome = outcomes[index] = computed.outcomes[place]
            # What is not finite is no reward, and may be another number next time.
            if not isinstance(outcome, ItemError) and all(map(math.isfinite, outcome)):
                self._cache.put(self._fingerprint, inputs[index], outcome)
        return Outcomes(
            labels=outcomes,
            computed_tokens=computed.computed_tokens,
            cached=len(inputs) - len(missing),
            seconds={"wait": computed.wait_seconds, "forward": computed.forward_seconds},
        )
