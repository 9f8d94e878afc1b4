"""Records of a file of any length, one at a time.

    *.jsonl, *.ndjson   one object a line; blank lines are skipped
    *.json              a list of objects, one object of named objects, or again one a line
    *.parquet           rows; needs pyarrow
    *.csv               rows under a line of names

A bad record is an error that names file, line and fix; whoever can do without it takes the error
through ``on_bad`` and goes on. What makes the whole file unreadable always ends the reading.
"""

from __future__ import annotations

import csv
import hashlib
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import ijson

from corpora.errors import CorpusError
from corpora.records import Record, parse_line, to_record

JSON_LINES, JSON, PARQUET, CSV = (".jsonl", ".ndjson"), (".json",), (".parquet",), (".csv",)
SUFFIXES = (*JSON_LINES, *JSON, *PARQUET, *CSV)

ROWS_READ = 256
"""Rows of a Parquet file in memory at a time."""

BYTES_READ = 1 << 20
"""Of a column of a Parquet file at a time."""

LONGEST_CELL = 1 << 24
"""Characters of one field of a CSV file."""

LONGEST_LINE = 1 << 24
"""Bytes of a first line that is looked at to tell JSON lines from other JSON."""

OnBad = Callable[[CorpusError], None]


def stop_at_bad(error: CorpusError) -> None:
    """Ends the reading at the first bad record."""
    raise error


def stream_records(
    path: Path, *, columns: Collection[str] | None = None, on_bad: OnBad = stop_at_bad
) -> Iterator[Record]:
    """The records of a file, in its order.

    Args:
        path: the file; its suffix says how it is laid out.
        columns: of a Parquet file, the only ones that are read; the others read all there is.
        on_bad: takes the error of a line that is no record.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises.
    """
    if not path.is_file():  # nor a pipe, since whoever checks a file reads it more than once
        raise CorpusError(f"{path}: no such file; name one with records")
    if path.suffix not in SUFFIXES:
        raise CorpusError(f"{path}: name a file that ends in {', '.join(SUFFIXES)}")
    try:
        if path.suffix in PARQUET:
            yield from _rows(path, columns)
        elif path.suffix in JSON and not _holds_lines(path):
            yield from _members(path, on_bad)
        else:
            yield from (_cells if path.suffix in CSV else _lines)(path, on_bad)
    except OSError as error:
        reason = error.strerror or _in_a_line(error)
        raise CorpusError(f"{path}: cannot be read ({reason}); name another file") from None


def stream_cells(path: Path, on_bad: OnBad) -> Iterator[tuple[str, int, list[str]]]:
    """The rows of a CSV file that are not blank: file and first line, number from 0, cells.

    Raises:
        CorpusError: naming file and line if it is no CSV, or what ``on_bad`` raises.
    """
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader, number = csv.reader(file, strict=True), 0
        while True:
            where = f"{path}:{reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise CorpusError(
                    f"{where}: cannot be read as CSV: {error}; write it again"
                ) from None
            if cells is None:
                return
            if not cells:
                continue
            if _is_utf8(cells):
                yield where, number, cells
            else:
                on_bad(CorpusError(f"{where}: is not UTF-8; write it again in UTF-8"))
            number += 1


def file_sha256(path: Path) -> str:
    """Hex sha256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        CorpusError: if they are not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415 - a client needs none
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise CorpusError(
            "*.parquet: needs pyarrow, which is not installed; `pip install pyarrow`, or give"
            " JSON lines"
        ) from None
    return pyarrow, pyarrow.parquet


def _lines(path: Path, on_bad: OnBad) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    record = parse_line(f"{path}:{number}", number, line)
                except CorpusError as error:
                    on_bad(error)
                else:
                    yield record


def _holds_lines(path: Path) -> bool:
    """Whether the first line is an object by itself, and not all that there is."""
    with path.open("rb") as file:
        line = file.readline(LONGEST_LINE)
        if not line.endswith(b"\n") or not line.removeprefix(BOM_UTF8).startswith(b"{"):
            return False
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return False
        return any(not later.isspace() for later in file)


def _members(path: Path, on_bad: OnBad) -> Iterator[Record]:
    """The objects of a list, or those of an object with their names."""
    for number, (name, value) in enumerate(_named_values(path), start=1):
        where = f"{path}: record {name or number}"
        try:
            record = to_record(where, number, value, name=name)
        except CorpusError as error:
            on_bad(error)
        else:
            yield record


def _named_values(path: Path) -> Iterator[tuple[str | None, Any]]:
    read = 0
    try:
        for member in _parsed(path):
            read += 1
            yield member
    except CorpusError:
        raise
    except (ijson.JSONError, ValueError) as error:  # not JSON, not UTF-8, too many digits
        place = f" after record {read}" if read else ""
        raise CorpusError(f"{path}: malformed JSON{place}: {_in_a_line(error)}; mend it") from None


def _parsed(path: Path) -> Iterator[tuple[str | None, Any]]:
    with path.open("rb") as file:
        start = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
        file.seek(start)
        first = next(ijson.basic_parse(file), ("nothing", None))[0]
        file.seek(start)
        if first == "start_array":
            yield from ((None, value) for value in ijson.items(file, "item", use_float=True))
        elif first == "start_map":
            yield from ijson.kvitems(file, "", use_float=True)
        else:
            raise CorpusError(f"{path}: expected a JSON list or object of objects; mend it")


def _in_a_line(error: Exception) -> str:
    """What is wrong; the parser gives bytes where the file is no UTF-8."""
    problem = next(iter(error.args), "")
    text = problem.decode(errors="replace") if isinstance(problem, bytes) else str(error)
    return " ".join(text.split())


def _rows(path: Path, columns: Collection[str] | None) -> Iterator[Record]:
    arrow, parquet = load_pyarrow()
    number = 0
    try:
        # Buffered ahead, every row group that was read would stay in memory.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=BYTES_READ) as file:
            names = file.schema_arrow.names
            read = None if columns is None else [name for name in names if name in columns]
            batches = file.iter_batches(ROWS_READ, columns=read)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, row in enumerate(rows, start=1):
                yield Record(f"{path}: row {number}", number, row)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        place = f" after row {number}" if number else ""
        problem = _in_a_line(error)
        raise CorpusError(
            f"{path}: cannot be read as Parquet{place}: {problem}; write it again"
        ) from None


def _cells(path: Path, on_bad: OnBad) -> Iterator[Record]:
    names: list[str] = []
    for where, number, cells in stream_cells(path, on_bad):
        if number == 0:
            names = cells
        elif len(cells) != len(names):
            on_bad(CorpusError(f"{where}: has not as many cells as names; mend it"))
        else:
            yield Record(where, number, dict(zip(names, cells, strict=True)))


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True
