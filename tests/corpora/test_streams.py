"""Records of files of every layout: streamed, and bad ones named or counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from corpora import streams
from corpora.errors import CorpusError
from corpora.records import Record
from corpora.streams import file_sha256, stream_records

ROWS = [{"question": "What helps?", "answer": "Rest – and “tea”."}, {"question": "b", "answer": ""}]


def write(path: Path) -> Path:
    """``ROWS`` in the layout of the file's suffix."""
    match path.suffix:
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        case ".json":
            path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
        case ".csv":
            cells = '\ufeffquestion,answer\r\nWhat helps?,"Rest – and “tea”."\r\nb,\r\n'
            path.write_text(cells, encoding="utf-8", newline="")
        case _:
            lines = "\n\n".join(json.dumps(row) for row in ROWS)
            path.write_text("\ufeff" + lines, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.parquet", "a.csv"])
def test_every_layout_gives_the_same_records(tmp_path: Path, name: str) -> None:
    assert [record.fields for record in stream_records(write(tmp_path / name))] == ROWS


def test_an_object_of_objects_gives_them_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"q7": {"n": 1.5}, "q8": {"n": 2}}', encoding="utf-8")
    records = list(stream_records(path))
    assert [(r.name, r.number, r.fields["n"]) for r in records] == [("q7", 1, 1.5), ("q8", 2, 2)]
    assert records[1].where == f"{path}: record q8"


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    [first, _] = stream_records(write(tmp_path / "a.parquet"), columns={"answer", "else"})
    assert first.fields == {"answer": ROWS[0]["answer"]}


def test_a_long_list_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = ",".join(json.dumps({"n": n, "pad": "x" * 200}) for n in range(2_000))
    path.write_text(f"[{rows}, {{", encoding="utf-8")
    records = stream_records(path)
    assert [next(records).fields["n"] for _ in range(100)] == list(range(100))
    with pytest.raises(CorpusError, match="malformed JSON"):
        list(records)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('{"n": 1}\n{"n": 2}', id="two"),
        pytest.param('\ufeff{"n": 1}\r\n\r\n{"n": 2}\r\n', id="of Windows"),
        pytest.param('{"n": 1}\n{"n": 2}\n{"n": ', id="torn"),
    ],
)
def test_lines_of_objects_may_be_called_json(tmp_path: Path, content: str) -> None:
    """As MedMCQA's own ``dev.json`` is; a hub's files cannot be renamed."""
    path = tmp_path / "dev.json"
    path.write_text(content, encoding="utf-8", newline="")
    bad: list[CorpusError] = []
    records = list(stream_records(path, on_bad=bad.append))
    assert [record.fields["n"] for record in records] == [1, 2]
    assert records[0].where == f"{path}:1"
    assert len(bad) == content.endswith(" ")


@pytest.mark.parametrize("content", ['\ufeff[{"n": 1}]', '\ufeff{"q": {"n": 1}}\n'])
def test_a_json_file_may_begin_with_a_mark(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert [record.fields["n"] for record in stream_records(path)] == [1]


def test_a_parquet_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_pylist([{"n": n, "pad": f"{n:06}" * 500} for n in range(8_000)])
    pyarrow.parquet.write_table(
        table, path, row_group_size=500, compression="none", use_dictionary=False
    )
    del table
    before = pyarrow.total_allocated_bytes()
    held = max(pyarrow.total_allocated_bytes() - before for _ in stream_records(path))
    assert held < path.stat().st_size / 4


def test_parquet_that_is_not_whole_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    content = bytearray(path.read_bytes())
    content[4:30] = b"\xff" * 26
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.parquet: cannot be read .*; name another") as caught:
        list(stream_records(path))
    assert "\n" not in str(caught.value)


def test_parquet_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    [_, ends, content] = pyarrow.array([b"a"] * 300 + [b"\xff"]).buffers()
    column = pyarrow.Array.from_buffers(pyarrow.string(), 301, [None, ends, content])
    pyarrow.parquet.write_table(pyarrow.table({"a": column}), path)
    with pytest.raises(CorpusError, match="cannot be read as Parquet after row 256: 'utf-8' codec"):
        list(stream_records(path))


def test_a_record_of_a_csv_file_is_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"1\n1",2\n\n3\n4,5\n', encoding="utf-8")
    bad: list[CorpusError] = []
    records = list(stream_records(path, on_bad=bad.append))
    assert [(record.where, record.number) for record in records] == [
        (f"{path}:2", 1),
        (f"{path}:6", 3),
    ]
    assert str(bad[0]).startswith(f"{path}:5: has not as many cells as names")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("a.jsonl", '{"a": 1}\n{"a"', r":2: malformed JSON: .*; mend it", id="line"),
        pytest.param("a.jsonl", "[1]", r":1: expected a JSON object, got \[1\]; mend", id="list"),
        pytest.param("a.jsonl", b'{"a": "\xff"}', ":1: malformed JSON: .*utf-8", id="bytes"),
        pytest.param("a.jsonl", "[\n", ":1: malformed JSON: .*: line 1 column 2; m", id="column"),
        pytest.param("a.jsonl", '{"a": ' + "9" * 5_000 + "}", ":1: malformed JSON", id="digits"),
        pytest.param("a.jsonl", "[" * 100_000, ":1: malformed JSON: .*recursion", id="depth"),
        pytest.param("a.json", "[" + "9" * 5_000 + "]", "malformed JSON: Exceeds", id="long"),
        pytest.param("a.json", "[{}, {", "malformed JSON after record 1: .*EOF", id="cut"),
        pytest.param("a.json", b'["\xff"]', "malformed JSON: .* invalid bytes in", id="latin"),
        pytest.param("a.json", "[{}, 7]", "record 2: expected a JSON object, got 7", id="number"),
        pytest.param("a.json", '{"q": 7}', "record q: expected a JSON object", id="member"),
        pytest.param("a.json", '"text"', "expected a JSON list or object of objects", id="text"),
        pytest.param("a.json", "[{]", "malformed JSON", id="json"),
        pytest.param("a.json", "", "malformed JSON", id="empty"),
        pytest.param("a.csv", "a,b\n1,2,3\n", ":2: has not as many cells as names", id="long"),
        pytest.param("a.csv", "a,b\n1,2\n3\n", ":3: has not as many cells", id="short"),
        pytest.param("a.csv", 'a,b\n1,2\n"3,4\n', ":3: cannot be read as CSV", id="quote"),
        pytest.param("a.csv", b"a,b\n1,\xe9\n", ":2: is not UTF-8; write it again", id="cells"),
        pytest.param("a.csv", b"a,\xe9\n1,2\n", ":1: is not UTF-8; write it again", id="names"),
        pytest.param("a.parquet", "not this", "cannot be read as Parquet", id="parquet"),
        pytest.param("a.xlsx", "", r"name a file that ends in \.jsonl, ", id="suffix"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=message) as caught:
        list(stream_records(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"a": "1"}\n{"a"\n7\n{"a": "4"}'),
        ("a.json", '[{"a": "1"}, 7, null, {"a": "4"}]'),
        ("a.csv", "a\n1\n2,3\n4,5\n4\n"),
        ("a.csv", "a\n1\n2,3\n\udcff\n4\n"),
    ],
)
def test_whoever_can_do_without_bad_records_gets_the_others(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    bad: list[CorpusError] = []
    assert [r.fields["a"] for r in stream_records(path, on_bad=bad.append)] == ["1", "4"]
    assert len(bad) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.json", "a.csv"])
def test_a_file_that_may_not_be_read_is_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Iterator[Record]:
        raise PermissionError(13, "Permission denied")

    for reader in ("_lines", "_rows", "_members", "_cells"):
        monkeypatch.setattr(streams, reader, refuse)
    (tmp_path / name).touch()
    with pytest.raises(CorpusError, match=r": cannot be read \(Permission denied\); name another"):
        next(stream_records(tmp_path / name))


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
