"""A reward server as a process of its own, with its events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT = 120
"""Seconds that anything may take on a busy machine before it has failed."""

MODULE = ("-m", "reward_server")


class Process:
    """A server on a free port, from its ``server.ready`` event until the end of the block.

    Its output is read all the time: a full pipe would hold the server.

    Args:
        arguments: of the command line, beside a free port unless they name one.
        program: what Python runs in the place of the server's own command.
    """

    def __init__(self, *arguments: str, program: Sequence[str] = MODULE) -> None:
        if program is MODULE and "--port" not in arguments:
            arguments = (*arguments, "--port", "0")
        self.child = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        self.events: list[dict[str, Any]] = []
        self.stderr = ""
        self._is_ready = threading.Event()
        self._readers = [threading.Thread(target=read) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        ended = not self._is_ready.wait(TIMEOUT) or not self.ready
        if ended:
            self.kill()
            raise AssertionError(f"no server: {self.events} {self.stderr}")
        self.url: str = self.ready["url"]
        self.port = httpx.URL(self.url).port or 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def ready(self) -> dict[str, Any]:
        """The event of that name; empty before it."""
        return next((event for event in self.events if event["event"] == "server.ready"), {})

    @property
    def is_running(self) -> bool:
        return self.child.poll() is None

    def named(self, event: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        return [each for each in self.events if each["event"] == event]

    def terminate(self) -> None:
        """Asks the server to stop."""
        self.child.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        status = self.child.wait(TIMEOUT)
        self._join()
        return status

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        self.child.kill()
        self.child.wait(TIMEOUT)
        self._join()

    def _read(self) -> None:
        assert self.child.stdout
        with self.child.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line))
                if self.ready:
                    self._is_ready.set()
        self._is_ready.set()

    def _read_errors(self) -> None:
        assert self.child.stderr
        with self.child.stderr as lines:
            for line in lines:
                self.stderr += line

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(TIMEOUT)
