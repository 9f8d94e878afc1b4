"""The lines of a long job: kept as they come, safe from a kill, continued by the same job only.

Beside ``NAME`` stands ``NAME.json`` with the pins, which say of which job the lines are. One
process at a time writes; a line that was torn by a kill is dropped when the job goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from foundation.errors import JobError, UserError

Pin = str | int | float | bool | None


class JournalError(UserError):
    """Lines are there that cannot be gone on with. The message names the file and the fix."""


class Journal:
    """Lines of JSON that outlive a kill of their writer; use it as a context manager.

    Args:
        path: the lines.
        pins: whatever decides the lines, and so must not change while they are unfinished.
        restart: whether lines of an earlier run may go.
        advice: what to do where the lines cannot be gone on with, for the error.

    Attributes:
        count: whole lines that are there.

    Raises:
        JournalError: if the lines are of another job, or another process is at them.
    """

    def __init__(
        self,
        path: Path,
        pins: Mapping[str, Pin],
        *,
        restart: bool = False,
        advice: str = "name another folder or begin anew with --restart",
    ) -> None:
        self.path = path
        self._pins_path = _pins_path(path)
        self._advice = advice
        self._file = path.open("a+b", buffering=0)  # a line that failed is not tried again
        try:
            self._lock()
            if restart:
                self._file.truncate(0)
            self._hold(pins)
            self.count = self._drop_torn_line()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, line: str) -> None:
        """Adds a line, given without its end, that a kill of this process does not lose.

        Raises:
            JobError: if it cannot be written.
        """
        rest = memoryview(line.encode() + b"\n")
        with writing(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]
        self.count += 1

    def sync(self) -> None:
        """Waits until the lines would survive the machine."""
        os.fsync(self._file.fileno())

    def drop_pins(self) -> None:
        """Removes the file of the pins, once the job is finished and the lines are elsewhere."""
        self._pins_path.unlink()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"{self.path}: another process is writing it; wait for it, or {self._advice}"
            ) from None

    def _hold(self, pins: Mapping[str, Pin]) -> None:
        if self.path.stat().st_size:
            self._check(self._read_pins(), pins)
            return
        fresh = self._pins_path.with_suffix(".new")
        with writing(self._pins_path):
            fresh.write_text(json.dumps(pins) + "\n", encoding="utf-8")
            fresh.replace(self._pins_path)

    def _read_pins(self) -> Mapping[str, Any]:
        pins = read_pins(self.path)
        if pins is None:
            raise JournalError(
                f"{self.path}: no telling of which job it is ({self._pins_path.name} is missing or"
                f" damaged); {self._advice}"
            )
        return pins

    def _check(self, before: Mapping[str, Pin], now: Mapping[str, Pin]) -> None:
        for name in dict.fromkeys((*before, *now)):
            if before.get(name) != now.get(name):
                raise JournalError(
                    f"{self.path}: begun with {name} {before.get(name)!r}, now it is"
                    f" {now.get(name)!r}; give what it began with, or {self._advice}"
                )

    def _drop_torn_line(self) -> int:
        """Leaves whole lines only and counts them."""
        self._file.seek(0)
        lines, end, read = 0, 0, 0
        while chunk := self._file.read(1 << 20):
            lines += chunk.count(b"\n")
            end = read + chunk.rfind(b"\n") + 1 if b"\n" in chunk else end
            read += len(chunk)
        self._file.truncate(end)
        return lines


def read_pins(path: Path) -> Mapping[str, Any] | None:
    """The pins of the journal at ``path``; ``None`` if they are missing or damaged."""
    try:
        pins = json.loads(_pins_path(path).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return pins if isinstance(pins, dict) else None


def _pins_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal, one at a time; a last one that a kill has torn is left out.

    Raises:
        JournalError: naming the line that is no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                if not line.endswith(b"\n"):
                    return
                raise JournalError(f"{path}:{number}: is damaged; mend the line or begin anew")
            yield fields


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the error of a file that cannot be written into one line.

    Raises:
        JobError: if it happens.
    """
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{path}: cannot be written ({error.strerror or error}); make room and start again: the"
            " job goes on where it was"
        ) from None
