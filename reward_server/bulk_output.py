"""The output of a bulk job: whole lines while it is unfinished, one file when it is done.

Finished groups are whole lines of ``OUT.partial``, in the order of the input; ``OUT.partial.json``
says of which job. When all are there they become ``OUT`` in one step, as JSON lines or as Parquet.
Knows neither the input nor the server.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from corpora.streams import PARQUET, load_pyarrow
from foundation.journal import Journal, writing
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


@dataclass(frozen=True, slots=True)
class Pins:
    """What decides the output, and so must not change while a job is unfinished."""

    input: str
    fingerprint: str
    model: str
    on_overflow: OnOverflow
    limit: int | None


class Partial(Journal):
    """The lines of an unfinished job, safe from being killed; use it as a context manager.

    Args:
        target: what it will become.
        pins: what decides the lines.
        restart: whether lines of an earlier run may go.

    Raises:
        JournalError: if its lines are of another job, or another process is at it.
    """

    def __init__(self, target: Path, pins: Pins, *, restart: bool) -> None:
        self._target = target
        super().__init__(
            target.with_name(target.name + ".partial"),
            asdict(pins),
            restart=restart,
            advice="name another OUT or begin anew with --restart",
        )

    def finish(self) -> None:
        """Makes the target of the lines, whole or not at all.

        Raises:
            JobError: if it cannot be written.
        """
        with writing(self._target):
            self.sync()
            if self._target.suffix in PARQUET:
                whole = self.path.with_name(self.path.name + ".parquet")
                write_parquet(self.path, whole)
                whole.replace(self._target)
                self.path.unlink()
            else:
                self.path.replace(self._target)
            self.drop_pins()


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
