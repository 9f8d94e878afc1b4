"""What kinds of reward without a model on the device share: being open to requests or closed."""

from __future__ import annotations

import asyncio
from typing import Any

from reward_server.errors import Draining
from reward_server.protocol import ModelInfo


class OpenScorer:
    """Takes requests between :meth:`start` and :meth:`aclose`, which waits for what is running."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._is_open = False
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_ready(self) -> bool:
        return self._is_open

    def start(self) -> None:
        self._is_open = True

    async def aclose(self) -> None:
        self._is_open = False
        if self._running:
            await asyncio.wait(self._running)

    def check_open(self) -> None:
        """Refuses a request that came too early or too late.

        Raises:
            Draining: if no requests are taken.
        """
        if not self._is_open:
            raise Draining(f"model {self._info.name!r} takes no requests")

    def wait_for(self, task: asyncio.Task[Any]) -> None:
        """Has :meth:`aclose` wait for ``task``."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)
