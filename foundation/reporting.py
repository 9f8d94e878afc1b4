"""What a long job tells people and machines while it runs.

An event is ``noun.verb_past`` with fields. On a terminal events are sentences and progress is a
bar; elsewhere each event is one JSON line on standard output and progress is one line a tenth.
Every event also goes to ``events.jsonl`` of the run, which can be followed with ``tail -f``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Reporter:
    """Writes events and progress. Use as a context manager: leaving it closes bar and file."""

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.time):
        self._stream = stream or sys.stdout
        self._clock = clock
        self._file: TextIO | None = None
        self._bars = _Bars(self._stream) if self._stream.isatty() else None
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()
        if self._file:
            self._file.close()

    def record_to(self, path: Path) -> None:
        """Appends every later event to ``path``."""
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def event(self, name: str, sentence: str = "", **fields: Any) -> None:
        """Tells that something happened: ``sentence`` for people, ``fields`` for machines.

        An event without a sentence does not show on a terminal.
        """
        line = json.dumps({"time": round(self._clock(), 3), "event": name, **fields}, default=str)
        if self._file:
            self._file.write(line + "\n")
        if not self._bars:
            self._write(line)
        elif sentence:
            self._bars.say(sentence)

    def progress(self, task: str, done: int, total: int) -> None:
        """Tells how far a task is; ``done == total`` ends it."""
        if self._bars:
            self._bars.show(task, done, total)
            return
        tenth = 10 * done // max(total, 1)
        if self._tenths.get(task) != tenth:
            self._tenths[task] = tenth
            fields = {"event": "task.progressed", "task": task, "done": done, "total": total}
            self._write(json.dumps({"time": round(self._clock(), 3), **fields}))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _Bars:
    """Sentences that scroll above live bars."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._started = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("        {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()

    def say(self, sentence: str) -> None:
        elapsed = int(time.monotonic() - self._started)
        clock = f"{elapsed // 60:2d}:{elapsed % 60:02d}"
        self._console.print(f"[dim]{clock}[/dim]   {sentence}")

    def show(self, task: str, done: int, total: int) -> None:
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(task, total=total)
        self._progress.update(self._tasks[task], completed=done, total=total)
        if done >= total:
            self._progress.remove_task(self._tasks.pop(task))

    def stop(self) -> None:
        self._progress.stop()
