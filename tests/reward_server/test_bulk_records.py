"""What of a file is a group, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]  # ships no types
import pytest

from corpora.errors import CorpusError
from reward_server.bulk_records import read_items

QUESTION = {"role": "user", "content": "What helps a cold?"}
SYSTEM = {"role": "system", "content": "Be brief."}
FOLLOW_UP = {"role": "user", "content": "And the fever?"}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(path: Path, records: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def groups(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{index}", "messages": [QUESTION], "candidates": ["x" * index, "rest"]}
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("record", "conversation", "candidates"),
    [
        pytest.param(
            {"messages": [SYSTEM, QUESTION], "candidates": ["a", "b"], "reference": "a"},
            [SYSTEM, QUESTION],
            ["a", "b"],
            id="group",
        ),
        pytest.param(
            {"prompt": "What helps a cold?", "candidates": ["a"]}, [QUESTION], ["a"], id="prompt"
        ),
        pytest.param(
            {"prompt": [SYSTEM, QUESTION], "responses": ["a", "b"]},
            [SYSTEM, QUESTION],
            ["a", "b"],
            id="prompt of messages, responses",
        ),
        pytest.param(
            {"prompt": "What helps a cold?", "chosen": "a", "rejected": "b"},
            [QUESTION],
            ["a", "b"],
            id="preference of texts",
        ),
        pytest.param(
            {"prompt": [QUESTION], "chosen": [says("a")], "rejected": [says("b")]},
            [QUESTION],
            ["a", "b"],
            id="preference of messages behind the prompt",
        ),
        pytest.param(
            {"chosen": [QUESTION, says("a")], "rejected": [QUESTION, says("b")]},
            [QUESTION],
            ["a", "b"],
            id="preference with a shared head",
        ),
        pytest.param(
            {
                "prompt": "What helps a cold?",
                "chosen": [SYSTEM, QUESTION, says("a")],
                "rejected": [SYSTEM, QUESTION, says("b")],
            },
            [SYSTEM, QUESTION],
            ["a", "b"],
            id="preference that repeats its prompt",
        ),
        pytest.param(
            {
                "prompt": [QUESTION],
                "chosen": [says("Rest."), FOLLOW_UP, says("a")],
                "rejected": [says("Rest."), FOLLOW_UP, says("b")],
            },
            [QUESTION, says("Rest."), FOLLOW_UP],
            ["a", "b"],
            id="preference that goes on where the prompt ends",
        ),
        pytest.param(
            {"messages": [QUESTION, says("Rest."), FOLLOW_UP, says("Tea.")], "candidates": None},
            [QUESTION, says("Rest."), FOLLOW_UP],
            ["Tea."],
            id="messages",
        ),
    ],
)
def test_a_record_is_a_conversation_with_its_candidates(
    tmp_path: Path, record: dict[str, Any], conversation: list[Any], candidates: list[str]
) -> None:
    [item] = read_items(write(tmp_path / "in.jsonl", [{**record, "source": "clinic"}]))
    assert [message.model_dump() for message in item.group.messages] == conversation
    assert list(item.group.candidates) == candidates
    assert item.group.reference == record.get("reference")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        pytest.param({"text": "hello"}, "no form that can be scored", id="no form"),
        pytest.param(
            {"prompt": "a?", "candidates": "b"}, "candidates: expected a list of texts", id="text"
        ),
        pytest.param({"prompt": "a?", "candidates": []}, "candidates: Tuple should", id="none"),
        pytest.param(
            {"prompt": "a?", "candidates": ["\ud800"]},
            "candidates.0: holds an unpaired surrogate",
            id="surrogate",
        ),
        pytest.param(
            {"prompt": [says("a")], "candidates": ["b"]},
            "prompt: messages: a conversation ends where",
            id="nothing is asked",
        ),
        pytest.param(
            {"prompt": [{"role": "tool", "content": "x"}], "candidates": ["b"]},
            "prompt: messages[0].role: 'tool'",
            id="role",
        ),
        pytest.param(
            {"prompt": 7, "candidates": ["b"]}, "prompt: expected text or messages", id="number"
        ),
        pytest.param(
            {"messages": [QUESTION]}, "messages: does not end with a text of the", id="no response"
        ),
        pytest.param({"messages": []}, "messages: does not end with a text of the", id="empty"),
        pytest.param({"messages": [says("a")]}, "messages: a response without", id="no question"),
        pytest.param({"chosen": "a", "rejected": "b"}, "prompt: missing, and", id="no prompt"),
        pytest.param(
            {"chosen": [QUESTION, says("a")], "rejected": [FOLLOW_UP, says("b")]},
            "rejected: answers another conversation than chosen",
            id="two conversations",
        ),
        pytest.param(
            {
                "prompt": "Something else?",
                "chosen": [QUESTION, says("a")],
                "rejected": [QUESTION, says("b")],
            },
            "prompt: is not part of what the answers repeat",
            id="another prompt",
        ),
        pytest.param(
            {"id": 1.5, "prompt": "a?", "candidates": ["b"]}, "id: is neither text", id="id"
        ),
        pytest.param(
            {"reference": 7, "prompt": "a?", "candidates": ["b"]}, "reference: expected", id="key"
        ),
    ],
)
def test_a_record_that_cannot_be_scored_is_one_line_with_its_place(
    tmp_path: Path, record: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "in.jsonl", [record])
    with pytest.raises(CorpusError) as stop:
        list(read_items(path))
    assert str(stop.value).startswith(f"{path}:1: ")
    assert words in str(stop.value)
    assert "\n" not in str(stop.value)


def test_all_records_of_a_file_have_the_form_of_the_first(tmp_path: Path) -> None:
    records = [*groups(2), {"prompt": "a?", "candidates": ["b"]}]
    with pytest.raises(CorpusError, match=r"in\.jsonl:3: messages: missing"):
        list(read_items(write(tmp_path / "in.jsonl", records)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param('{"prompt": ', "malformed JSON", id="torn"),
        pytest.param("[1]", "expected a JSON object, got \\[", id="list"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, words: str) -> None:
    source = write(tmp_path / "in.jsonl", groups(3))
    source.write_text(source.read_text() + "\n" + line + "\n")
    with pytest.raises(CorpusError, match=rf"in\.jsonl:5: {words}"):
        list(read_items(source))


def test_a_file_that_is_no_parquet_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    source.write_bytes(b"not this")
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        list(read_items(source))


def test_blank_lines_count_as_lines_and_numbers_are_ids_too(tmp_path: Path) -> None:
    source = tmp_path / "in.ndjson"
    one = json.dumps({"id": 7, "prompt": "a?", "responses": ["b"]})
    other = json.dumps({"prompt": "a?", "responses": ["b"]})
    source.write_text(f"\ufeff{one}\n\n  \n{other}", encoding="utf-8")
    items = list(read_items(source))
    assert [(item.record.number, item.id) for item in items] == [(1, "7"), (4, None)]
    assert [item.group.id for item in items] == ["7", "line 4"]


def test_rows_are_read_like_lines(tmp_path: Path) -> None:
    records = [{**record, "index": index} for index, record in enumerate(groups(600))]
    rows, lines = tmp_path / "in.parquet", write(tmp_path / "in.jsonl", records)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), rows)
    read = [item.group for item in read_items(rows)]
    assert read == [item.group for item in read_items(lines)]
    assert len(read) == 600


@pytest.mark.parametrize("name", ["none.jsonl", "none.parquet", ".", "pipe"])
def test_what_is_no_file_is_one_line(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match=r": no such file; name one with records$"):
        next(read_items(tmp_path / name))


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*groups(5), {"broken": True}])
    assert [item.id for item in read_items(source, 4)] == ["q0", "q1", "q2", "q3"]
