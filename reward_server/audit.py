"""The audit log: what was scored for whom, by which model, with which result. One line a request.

Promises, each held by a test:

- no text, unless it was asked for; a text is named by its sha256. That hides it from whoever
  cannot guess it, so the file is readable by its owner alone all the same;
- the event loop hands a record over and goes on: hashing and writing happen on a thread;
- a request that cannot be recorded is counted and named in the log of the server. It is scored all
  the same, or, where the audit is required, not answered until its line is on the disk;
- nothing is deleted: a full file becomes ``audit.1.jsonl``, the next one ``audit.2.jsonl``, …;
- what a crash left half written stays alone on its line.

One server writes to one file. Knows nothing of HTTP or models.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

import structlog

from reward_server.audit_record import Entry, describe
from reward_server.errors import AuditFailed, ServerStartError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MAX_WAITING = 1_024
"""Records that wait for the disk at most; each keeps its request in memory."""

MAX_BYTES = 256 * 2**20
"""Size of one file of the log, by default."""


class AuditLog:
    """Writes records to a file between :meth:`start` and :meth:`aclose`.

    Args:
        path: the file that is written to; a ``.jsonl``.
        include_text: whether records hold what was sent.
        required: whether a request that cannot be recorded fails.
        sampling: share of the requests that are recorded, 0 to 1.
        max_bytes: size above which a new file is begun.
    """

    def __init__(
        self,
        path: Path,
        *,
        include_text: bool = False,
        required: bool = False,
        sampling: float = 1.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._file = _Appended(path, max_bytes)
        self._include_text = include_text
        self._required = required
        self._sampling = sampling
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        # Each counter has one thread that changes it.
        self._handed_over = 0
        self._turned_away = 0
        self._written = 0
        self._failed = 0

    @property
    def waiting(self) -> int:
        """Records on their way to the disk."""
        return self._handed_over - self._written - self._failed

    @property
    def written(self) -> int:
        """Records in the file since the start."""
        return self._written

    @property
    def lost(self) -> int:
        """Records that are not in the file and will not be."""
        return self._turned_away + self._failed

    def start(self) -> None:
        """Opens the file.

        Raises:
            ServerStartError: if it cannot be written to.
        """
        try:
            self._file.open()
        except OSError as error:
            raise ServerStartError(
                f"audit: {self._file.path}: cannot be written to ({error.strerror}); "
                "name a file in a folder of this user"
            ) from None

    async def aclose(self) -> None:
        """Writes what waits, brings it to the disk and closes the file."""
        closing = self._writer.submit(self._file.close)
        await asyncio.to_thread(self._writer.shutdown)
        if error := closing.exception():
            log.error("audit.close_failed", reason=str(error))

    async def record(self, entry: Entry) -> None:
        """Takes a record; returns at once, unless the audit is required.

        Raises:
            AuditFailed: if the audit is required and the record is not on the disk.
        """
        if not is_sampled(entry.request_id, self._sampling):
            return
        problem = await self._hand_over(entry)
        if problem and self._required:
            raise AuditFailed(
                f"the audit log, which is required here, cannot be written: {problem}"
            )

    async def _hand_over(self, entry: Entry) -> str | None:
        if self.waiting >= MAX_WAITING:
            self._turned_away += 1
            return self._lose(entry, f"{self.waiting} records wait for the disk")
        self._handed_over += 1
        writing = self._writer.submit(self._write, entry)
        if not self._required:
            return None
        # Shielded: a caller who leaves must not take the record of its request along.
        return await asyncio.shield(asyncio.wrap_future(writing))

    def _write(self, entry: Entry) -> str | None:
        try:
            record = describe(entry, include_text=self._include_text)
            line = record.model_dump_json(exclude_none=True).encode() + b"\n"
            self._file.append(line, sync=self._required)
        except Exception as error:  # nobody awaits it, so whatever it is must be told here
            self._failed += 1
            # Of other errors only the name: their words may be those of the request.
            reason = error.strerror if isinstance(error, OSError) else None
            return self._lose(entry, reason or type(error).__name__)
        self._written += 1
        return None

    def _lose(self, entry: Entry, problem: str) -> str:
        log.error("audit.record_lost", request_id=entry.request_id, reason=problem, lost=self.lost)
        return problem


class _Appended:
    """A file of lines, private to its user, that is followed by another when it is full."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file: FileIO | None = None
        self._is_torn = False

    def open(self) -> FileIO:
        self.close()
        self._file = FileIO(self.path, "a+", opener=_private)
        size = os.fstat(self._file.fileno()).st_size
        self._is_torn = size > 0 and os.pread(self._file.fileno(), 1, size - 1) != b"\n"
        return self._file

    def close(self) -> None:
        file, self._file = self._file, None
        if file:
            with file:
                os.fsync(file.fileno())

    def append(self, line: bytes, *, sync: bool) -> None:
        file = self._file_for(len(line))
        unwritten = memoryview(b"\n" + line if self._is_torn else line)
        self._is_torn = True  # until the whole line is there
        while unwritten:
            unwritten = unwritten[file.write(unwritten) :]
        self._is_torn = False
        if sync:
            os.fsync(file.fileno())

    def _file_for(self, size: int) -> FileIO:
        file = self._file or self.open()
        found = os.fstat(file.fileno())
        if found.st_nlink == 0:  # somebody removed it: what is written there is gone
            return self.open()
        if found.st_size and found.st_size + size > self._max_bytes:
            return self._begin_another()
        return file

    def _begin_another(self) -> FileIO:
        stem, suffix = self.path.stem, self.path.suffix
        numbered = re.compile(rf"{re.escape(stem)}\.(\d+){re.escape(suffix)}")
        matches = (numbered.fullmatch(file.name) for file in self.path.parent.iterdir())
        last = max((int(match[1]) for match in matches if match), default=0)
        self.path.rename(self.path.with_name(f"{stem}.{last + 1}{suffix}"))
        return self.open()


def is_sampled(request_id: str, rate: float) -> bool:
    """Whether a request is in a sample of that rate; the same everywhere and every time.

    Callers choose their request ids, and so could choose to stay out: record all where that
    matters.
    """
    drawn = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big")
    return drawn < rate * 2**64


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
