from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from reward_server.device_thread import DeviceThread, OnDevice, on_passing_thread
from reward_server.protocol import EngineName
from reward_server.tokens import Labels, TokenInput


class NamesItsThread:
    name: EngineName = "padded"

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        return [0], [1]

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        return [(float(threading.get_ident()),)]


class Broken(Exception):
    pass


def fails() -> None:
    raise Broken("gone")


def test_engines_of_all_threads_compute_on_one() -> None:
    device = DeviceThread()
    engines = [OnDevice(NamesItsThread(), device) for _ in range(4)]
    with ThreadPoolExecutor(4) as callers:
        idents = {
            labels
            for [labels] in callers.map(lambda each: each.forward([TokenInput((1,))]), engines)
        }
    device.close()
    assert len(idents) == 1
    assert idents != {(float(threading.get_ident()),)}


def test_an_error_reaches_its_caller_and_the_next_one_has_its_turn() -> None:
    device = DeviceThread()
    with pytest.raises(Broken, match="gone"):
        device.run(fails)
    assert device.run(lambda: 3) == 3
    device.close()


def test_the_thread_ends_when_it_is_closed() -> None:
    device = DeviceThread()
    thread = device.run(threading.current_thread)
    device.close()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_passing_thread_has_ended_when_its_result_is_there() -> None:
    assert not on_passing_thread(threading.current_thread).is_alive()
    with pytest.raises(Broken, match="gone"):
        on_passing_thread(fails)
