"""A server process that a method asks, whoever's it is."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from foundation.process import ChildProcess

TERMINATE_SECONDS = 30


class ServerProcess:
    """A server that answers; use it as a context manager. A subclass says what is started.

    Args:
        url: where it listens.
        line: the command.
        log_file: where its output goes.
        environment: variables beside those of this process.
        health: path that answers 200 once it is ready.
        ready_seconds: how long that may take.
    """

    def __init__(  # what a process is made of
        self,
        url: str,
        line: list[str],
        log_file: Path,
        environment: dict[str, str],
        *,
        health: str,
        ready_seconds: float,
    ) -> None:
        self.url = url
        self._child = ChildProcess(line, log_file=log_file, environment=environment)
        self._health = health
        self._ready_seconds = ready_seconds

    def __enter__(self) -> Self:
        try:
            self._child.wait_until_ready(f"{self.url}{self._health}", timeout=self._ready_seconds)
        except BaseException:
            self._child.terminate()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.terminate(grace=TERMINATE_SECONDS)
