"""Work on many things at once, a bounded number of them, with the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, width: int
) -> AsyncGenerator[R, None]:
    """The results of ``work`` on each item, in the order of the items.

    At most ``width`` items are worked on together, and at most ``2 * width`` are read before the
    first of them has given its result: a slow one does not leave the others idle at once. A failure
    is raised in its item's place, so what stands before it is not lost; it ends the others, and so
    does closing the generator (``contextlib.aclosing``).
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
            result = await window[0]
            window.popleft()
            yield result
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)
