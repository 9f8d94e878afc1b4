"""Records of data files: a JSON list of objects, or one JSON object a line.

A file that cannot be read this way is one line that names the file, the record or line, the field
and the fix. Nothing here knows which fields a format has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file."""

    where: str
    """File and place, for error messages."""
    number: int
    """Line or position in the list, counted from 1."""
    fields: Mapping[str, object]

    def text(self, field: str) -> str:
        """The text of a field, which may be empty.

        Raises:
            CorpusError: if the field is missing or not text.
        """
        value = self.fields.get(field)
        if isinstance(value, str):
            return value
        problem = f"expected text, got {value!r:.60}" if field in self.fields else "missing"
        raise CorpusError(f"{self.where}: {field}: {problem}; give every record this text")

    def optional_text(self, field: str) -> str | None:
        """The text of a field, or ``None`` where it is absent or null.

        Raises:
            CorpusError: if there is something else than text.
        """
        return None if self.fields.get(field) is None else self.text(field)


def read_json(path: Path) -> Sequence[Record]:
    """The objects of a file that holds one JSON list.

    Raises:
        CorpusError: if the file is missing, empty, malformed or holds something else.
    """
    content = _parse(_read(path), where=str(path))
    if not isinstance(content, list) or not content:
        raise CorpusError(f"{path}: expected a list of at least one JSON object")
    return [_record(f"{path}: record {n}", n, row) for n, row in enumerate(content, start=1)]


def read_jsonl(path: Path) -> Sequence[Record]:
    """The objects of a file that holds one a line; blank lines are skipped.

    Raises:
        CorpusError: if the file is missing, empty, malformed or holds something else.
    """
    lines = enumerate(_read(path).split("\n"), start=1)
    return [_line(f"{path}:{number}", number, line) for number, line in lines if line.strip()]


def _read(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"data.path: {path}: no such file; set data.path=FILE") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"data.path: {path}: cannot be read as text ({error}); set data.path=FILE"
        ) from None
    if not content.strip():
        raise CorpusError(f"data.path: {path}: the file is empty; set data.path=FILE with records")
    return content


def _parse(text: str, *, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise CorpusError(f"{where}: malformed JSON: {error.msg} at {place}; mend it") from None


def _line(where: str, number: int, line: str) -> Record:
    return _record(where, number, _parse(line, where=where))


def _record(where: str, number: int, row: object) -> Record:
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected a JSON object, got {row!r:.60}")
    return Record(where, number, row)
