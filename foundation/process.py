"""Child processes that cannot outlive their owner, and the ports that they listen on.

A command runs under a keeper (:mod:`foundation.keeper`) in a process group of its own, so that a
``kill -9`` of the owner, a Ray actor included, leaves neither the command nor anything it started.
Output goes to a log file, which every error names. Linux only. Knows nothing of what it runs.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from foundation import keeper
from foundation.errors import UserError

POLL_SECONDS = 0.1
"""Pause between two looks at a health URL; a child that ends interrupts it."""

PROBE_TIMEOUT_SECONDS = 5.0
"""What one look at a health URL may take: a server that loads a model answers late."""

TAIL_LINES = 20
"""Lines of the log that an error carries."""

TAIL_BYTES = 65_536
"""How far from its end a log is read for them."""

ERROR_LINE = re.compile(r"\b[A-Za-z]*(Error|Exception): ")
"""How Python ends a traceback."""


class ProcessError(UserError):
    """A child process did not do what it was started for. ``tail`` holds its last log lines."""

    def __init__(self, message: str, *, tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tail = tuple(tail)


class ProcessEnded(ProcessError):
    """The child ended before it was ready."""


class ProcessNotReady(ProcessError):
    """The child runs, but did not answer in time."""


class ChildProcess:
    """A running command; use it as a context manager, or call :meth:`terminate`.

    Args:
        command: program and arguments.
        log_file: where stdout and stderr are appended; its folder is created.
        environment: variables to set on top of the ones inherited.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches the owner, who ends its children in order
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.terminate()

    @property
    def pid(self) -> int:
        """The keeper's process id; the command is its only child."""
        return self._keeper.pid

    @property
    def returncode(self) -> int | None:
        """``None`` while it runs; 128 + N where signal N ended it."""
        return self._keeper.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, or ``None`` if the child still runs after ``timeout`` seconds."""
        try:
            return self._keeper.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def wait_until_ready(self, url: str, *, timeout: float) -> None:
        """Blocks until a GET of ``url`` succeeds.

        Args:
            url: the health URL.
            timeout: seconds to wait at most.

        Raises:
            ProcessEnded: as soon as the child ends.
            ProcessNotReady: if it still does not answer after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with httpx.Client(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False) as client:
            while not _answers(client, url):
                if self.wait(POLL_SECONDS) is not None:
                    raise self._ended()
                if time.monotonic() > deadline:
                    raise self._not_ready(url, timeout)

    def terminate(self, *, grace: float = 10.0) -> None:
        """Asks the command to leave, and after ``grace`` seconds kills its whole group."""
        self._keeper.terminate()
        if self.wait(grace) is None:
            self._keeper.send_signal(signal.SIGQUIT)
            self._keeper.wait()

    def tail(self) -> list[str]:
        """The end of the log, at most ``TAIL_BYTES``, without blank lines."""
        with self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def _ended(self) -> ProcessEnded:
        tail = self.tail()
        return ProcessEnded(
            f"{self.log_file}: ended with code {self.returncode} before it was ready: "
            f"{_reason(tail)}",
            tail=tail[-TAIL_LINES:],
        )

    def _not_ready(self, url: str, timeout: float) -> ProcessNotReady:
        return ProcessNotReady(
            f"{self.log_file}: no answer from {url} after {timeout:g} s; allow more time",
            tail=self.tail()[-TAIL_LINES:],
        )


def free_port() -> int:
    """A port of the loopback interface that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_in_use(host: str, port: int) -> bool:
    """Whether a server could not listen on ``host:port`` now."""
    with socket.socket() as probe:
        # Servers set this too: a port whose last connections linger is free to them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _reason(tail: Sequence[str]) -> str:
    """The last line that names an error: libraries still say goodbye after the one that counts."""
    if not tail:
        return "it wrote nothing"
    return next((line for line in reversed(tail) if ERROR_LINE.search(line)), tail[-1])


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False
