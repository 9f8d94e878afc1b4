"""Bounded work with results in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from benchmarks.window import in_order


@pytest.mark.parametrize("width", [1, 3, 100])
async def test_results_come_in_order_and_no_more_than_so_many_are_under_way(width: int) -> None:
    under_way, most = 0, 0

    async def work(item: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range((7 * item) % 5):  # they finish in another order than they begin
            await asyncio.sleep(0)
        under_way -= 1
        return item * item

    assert [r async for r in in_order(range(40), work, width=width)] == [i * i for i in range(40)]
    assert most <= width


async def test_items_are_read_as_far_as_twice_the_width() -> None:
    read = []

    def items() -> Iterator[int]:
        for item in range(1_000):
            read.append(item)
            yield item

    async def work(item: int) -> int:
        return item

    async with aclosing(in_order(items(), work, width=4)) as results:
        assert await anext(results) == 0
    assert len(read) <= 9


async def test_a_failure_comes_in_its_place_and_ends_what_is_behind_it() -> None:
    cancelled = []

    async def work(item: int) -> int:
        if item == 2:
            raise ValueError("broken")
        if item > 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
        return item

    results = in_order(range(9), work, width=4)
    assert [await anext(results) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        await anext(results)
    assert cancelled[:2] == [3, 4]


async def test_a_closed_stream_leaves_nothing_under_way() -> None:
    ended = 0

    async def work(job: int) -> int:
        nonlocal ended
        try:
            if job > 0:
                await asyncio.Event().wait()
        finally:
            ended += 1
        return job

    stream = in_order(range(10), work, width=3)
    assert await anext(stream) == 0
    await stream.aclose()
    assert ended == 4


async def test_nothing_gives_nothing() -> None:
    async def work(item: int) -> int:
        return item

    assert [r async for r in in_order([], work, width=2)] == []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
