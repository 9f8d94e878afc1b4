"""Records of data files, and files that are read whole: a JSON list, or one JSON object a line.

A file that cannot be read this way is one line that names the file, the record or line, the field
and the fix. Nothing here knows which fields a format has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.errors import CorpusError

_WHOLE = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a file."""

    where: str
    """File and place, for error messages."""
    number: int
    """Line or position in the list, counted from 1."""
    fields: Mapping[str, object]
    name: str | None = None
    """What the file calls it, where it is an object of named objects."""

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

    def texts(self, field: str) -> list[str]:
        """The texts of a field that holds a list of them.

        Raises:
            CorpusError: if the field is missing or something else.
        """
        value = self.fields.get(field)
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return value
        problem = f"expected a list of texts, got {value!r:.60}" if value is not None else "missing"
        raise CorpusError(f"{self.where}: {field}: {problem}; give every record such a list")

    def whole(self, field: str) -> int:
        """The whole number of a field, which may be written as text.

        Raises:
            CorpusError: if the field is missing or something else.
        """
        value = self.fields.get(field)
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        problem = f"expected a whole number, got {value!r:.60}" if value is not None else "missing"
        raise CorpusError(f"{self.where}: {field}: {problem}; give every record this number")


def read_json(path: Path) -> Sequence[Record]:
    """The objects of a file that holds one JSON list.

    Raises:
        CorpusError: if the file is missing, empty, malformed or holds something else.
    """
    content = _parse(_read(path), where=str(path))
    if not isinstance(content, list) or not content:
        raise CorpusError(f"{path}: expected a list of at least one JSON object")
    return [to_record(f"{path}: record {n}", n, row) for n, row in enumerate(content, start=1)]


def read_jsonl(path: Path) -> Sequence[Record]:
    """The objects of a file that holds one a line; blank lines are skipped.

    Raises:
        CorpusError: if the file is missing, empty, malformed or holds something else.
    """
    lines = enumerate(_read(path).split("\n"), start=1)
    return [parse_line(f"{path}:{number}", number, line) for number, line in lines if line.strip()]


def parse_line(where: str, number: int, line: str | bytes) -> Record:
    """The record of one line of JSON.

    Raises:
        CorpusError: if it is malformed, or no object.
    """
    return to_record(where, number, _parse(line.rstrip(), where=where))


def to_record(where: str, number: int, row: object, *, name: str | None = None) -> Record:
    """The record of a parsed value.

    Raises:
        CorpusError: if it is no object.
    """
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected a JSON object, got {row!r:.60}; mend it")
    return Record(where, number, row, name)


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


def _parse(text: str | bytes, *, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise CorpusError(f"{where}: malformed JSON: {error.msg}: {place}; mend it") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, too many digits, too deep
        raise CorpusError(f"{where}: malformed JSON: {error}; mend it") from None
