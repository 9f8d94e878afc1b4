"""Many questions to one server, a bounded number of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def ask_each(
    items: Sequence[T],
    ask: Callable[[T], Awaitable[R]],
    done: Callable[[int, R], None],
    *,
    window: int,
) -> list[R]:
    """The answers in the order of the items; the first failure ends it.

    Args:
        items: what is asked about.
        ask: asks about one item.
        done: called with the place and the answer of each item, in the order in which they finish.
        window: items that are asked about at the same time.
    """
    answers: dict[int, R] = {}
    waiting = iter(enumerate(items))

    async def work() -> None:
        for index, item in waiting:
            answers[index] = await ask(item)
            done(index, answers[index])

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(window, len(items))):
                tasks.create_task(work())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [answers[index] for index in range(len(items))]
