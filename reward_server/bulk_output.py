"""The output of a bulk job: whole lines while it is unfinished, one file when it is done.

Finished groups are whole lines of ``OUT.partial``, in the order of the input; ``OUT.partial.json``
says of which job. When all are there they become ``OUT`` in one step, as JSON lines or as Parquet.
Knows neither the input nor the server.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from corpora.streams import PARQUET, load_pyarrow
from foundation.errors import JobError
from reward_server.bulk_records import BulkError
from reward_server.protocol import OnOverflow

ROW_GROUP = 10_000
"""Records of one row group of a Parquet output."""

BESIDE = ("parts", "disagreement", "calibrated")
"""Fields of a record that are there only where one of its candidates has them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the output. All lists run along the candidates."""

    line: int
    """Line or row of the record in the input, counted from 1."""

    id: str | None
    rewards: list[float | None]
    tokens: list[int | None]
    truncated_tokens: list[int | None]
    errors: list[str | None]
    """``code: detail`` where there is no reward."""

    fingerprint: str
    model: str
    parts: list[dict[str, float] | None] | None = None
    disagreement: list[float | None] | None = None
    calibrated: list[dict[str, Any] | None] | None = None
    """As on the wire, like the two before it; ``None`` where no candidate has any."""

    def to_json(self) -> str:
        """The record as one line of JSON, without its end."""
        fields = asdict(self)
        for name in BESIDE:
            if fields[name] is None:
                del fields[name]
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)


class Pins(BaseModel):
    """What decides the output, and so must not change while a job is unfinished."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    fingerprint: str
    model: str
    on_overflow: OnOverflow
    limit: int | None

    def check(self, now: Pins, where: Path) -> None:
        """Holds a job that goes on against the one that was begun.

        Raises:
            BulkError: naming the first thing that differs.
        """
        for name, before in self:
            after = getattr(now, name)
            if before != after:
                raise BulkError(
                    f"{where}: begun with {name} {before!r}, now it is {after!r}; give what it"
                    " began with, or begin anew with --restart"
                )


class Partial:
    """The lines of an unfinished job, safe from being killed; use it as a context manager.

    Args:
        target: what it will become.
        pins: what decides the lines.
        restart: whether lines of an earlier run may go.

    Raises:
        BulkError: if its lines are of another job, or another process is at it.
    """

    def __init__(self, target: Path, pins: Pins, *, restart: bool) -> None:
        self._target = target
        self._path = target.with_name(target.name + ".partial")
        self._pins_path = target.with_name(target.name + ".partial.json")
        self._file = self._path.open("a+b", buffering=0)  # a line that failed is not tried again
        try:
            self._lock()
            if restart:
                self._file.truncate(0)
            self._hold(pins)
            self.lines = self._drop_torn_line()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, line: Line) -> None:
        """Adds a line that a kill of this process does not lose.

        Raises:
            JobError: if it cannot be written.
        """
        rest = memoryview(line.to_json().encode() + b"\n")
        with _writing(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self) -> None:
        """Makes the target of the lines, whole or not at all.

        Raises:
            JobError: if it cannot be written.
        """
        with _writing(self._target):
            os.fsync(self._file.fileno())
            if self._target.suffix in PARQUET:
                whole = self._path.with_name(self._path.name + ".parquet")
                write_parquet(self._path, whole)
                whole.replace(self._target)
                self._path.unlink()
            else:
                self._path.replace(self._target)
            self._pins_path.unlink()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BulkError(
                f"{self._path}: another process is writing it; wait for it or name another OUT"
            ) from None

    def _hold(self, pins: Pins) -> None:
        if self._path.stat().st_size:
            self._read_pins().check(pins, self._path)
            return
        fresh = self._pins_path.with_suffix(".new")
        fresh.write_text(pins.model_dump_json() + "\n", encoding="utf-8")
        fresh.replace(self._pins_path)

    def _read_pins(self) -> Pins:
        try:
            return Pins.model_validate_json(self._pins_path.read_bytes())
        except (FileNotFoundError, ValidationError):
            raise BulkError(
                f"{self._path}: no telling of which job it is ({self._pins_path.name} is missing or"
                " damaged); name another OUT or begin anew with --restart"
            ) from None

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


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{path}: cannot be written ({error.strerror or error}); make room and start again: the"
            " job goes on where it was"
        ) from None


def write_parquet(lines: Path, target: Path) -> None:
    """Writes the lines of an output as a Parquet file, a row group at a time.

    What only some records have is a column of JSON text: its form differs from model to model.
    """
    arrow, parquet = load_pyarrow()
    schema = arrow.schema(
        [
            ("line", arrow.int64()),
            ("id", arrow.string()),
            ("rewards", arrow.list_(arrow.float64())),
            ("tokens", arrow.list_(arrow.int64())),
            ("truncated_tokens", arrow.list_(arrow.int64())),
            ("errors", arrow.list_(arrow.string())),
            ("fingerprint", arrow.string()),
            ("model", arrow.string()),
            *((name, arrow.string()) for name in BESIDE),
        ]
    )
    with lines.open("rb") as file, parquet.ParquetWriter(target, schema) as writer:
        while rows := [_row(line) for line in islice(file, ROW_GROUP)]:
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))


def _row(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line)
    texts = {
        name: json.dumps(fields[name], ensure_ascii=False) for name in BESIDE if name in fields
    }
    return fields | texts
