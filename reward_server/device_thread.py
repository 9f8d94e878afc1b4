"""The one thread of a server on which models compute, whatever the number of models.

Every thread on which torch computes on a CPU keeps helpers of its own, one for each core. Once two
such threads are alive, OpenMP has more helpers than cores, and they sleep between the steps of a
forward pass instead of spinning: the same pass takes half as long again. So engines take turns on
one thread, and whatever else computes does so on a thread that ends (:func:`on_passing_thread`).

Knows nothing of torch, batches or requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from reward_server.batcher import Engine
from reward_server.protocol import EngineName
from reward_server.tokens import Labels, TokenInput

R = TypeVar("R")


class DeviceThread:
    """Runs one piece of work after another. A daemon: work that hangs does not keep a process."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._start = threading.Lock()

    def run(self, work: Callable[[], R]) -> R:
        """Waits for its turn and for ``work``; gives its result, or raises what it raised."""
        with self._start:
            if self._thread.ident is None:
                self._thread.start()
        future: Future[R] = Future()
        self._waiting.put((future, work))
        return future.result()

    def close(self) -> None:
        """Ends the thread after what waits."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (turn := self._waiting.get()) is not None:
            _settle(*turn)


class OnDevice:
    """An engine whose batches are computed on a device thread."""

    def __init__(self, engine: Engine, device: DeviceThread) -> None:
        self._engine = engine
        self._device = device

    @property
    def name(self) -> EngineName:
        return self._engine.name

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        """As the engine's own, on the calling thread."""
        return self._engine.order(inputs)

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        """As the engine's own, when its turn has come."""
        return self._device.run(lambda: self._engine.forward(inputs))


def on_passing_thread(work: Callable[[], R]) -> R:
    """Waits for ``work`` on a thread that ends with it; gives its result, or raises as it did."""
    future: Future[R] = Future()
    thread = threading.Thread(target=_settle, args=(future, work), name="passing", daemon=True)
    thread.start()
    result = future.result()
    thread.join()
    return result


def _settle(future: Future[R], work: Callable[[], R]) -> None:
    try:
        result = work()
    except BaseException as error:  # it belongs to whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)
