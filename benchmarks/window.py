"""Work on many things at once, a bounded number of them, with the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, width: int
) -> AsyncGenerator[R, None]:
    """The results of ``work`` on each item, in the order of the items.

    ``items`` is read at most ``2 * width`` ahead of what was taken; at most ``width`` are worked on
    together. The first failure ends the others and is raised. Close it (``contextlib.aclosing``) to
    leave early.
    """
    slots = asyncio.Semaphore(width)
    window: deque[asyncio.Task[R]] = deque()

    async def run(item: T) -> R:
        async with slots:
            return await work(item)

    source = iter(items)
    try:
        while True:
            room = islice(source, 2 * width - len(window))
            window.extend(asyncio.ensure_future(run(item)) for item in room)
            if not window:
                return
            await _first(window)
            yield window.popleft().result()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


async def _first(window: Sequence[asyncio.Task[R]]) -> None:
    """Waits for the first task, or for the failure of any."""
    while not window[0].done():
        pending = [task for task in window if not task.done()]
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in window:
            if task.done() and (error := task.exception()):
                raise error
