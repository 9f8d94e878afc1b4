"""Lines of an unfinished job, and the file that they become."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]  # ships no types
import pytest

from foundation.journal import JournalError
from reward_server import bulk_output
from reward_server.bulk_output import BESIDE, Line, Partial, Pins

PINS = Pins(input="i", fingerprint="f", model="m", on_overflow="error", limit=None)
PLAIN = Line(
    line=1,
    id=None,
    rewards=[0.1, None],
    tokens=[7, 8],
    truncated_tokens=[0, 0],
    errors=[None, "no_rival: alone"],
    fingerprint="f",
    model="m",
)
RICH = replace(
    PLAIN,
    line=2,
    id="é",
    parts=[{"harmless é": 0.1}, None],
    disagreement=[0.2, None],
    calibrated=[{"artefact": "cafe", "z_score": 1.0}, None],
)


def write(target: Path, *lines: Line) -> Path:
    with Partial(target, PINS, restart=False) as partial:
        for line in lines:
            partial.append(line.to_json())
        partial.finish()
    return target


def read(path: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_what_stands_beside_rewards_only_where_there_is_any(tmp_path: Path) -> None:
    plain, rich = read(write(tmp_path / "out.jsonl", PLAIN, RICH))
    assert list(plain) == [
        *("line", "id", "rewards", "tokens", "truncated_tokens", "errors", "fingerprint", "model")
    ]
    assert plain["id"] is None
    assert list(rich) == [*plain, *BESIDE]
    assert [rich[name] for name in BESIDE] == [RICH.parts, RICH.disagreement, RICH.calibrated]


def test_in_parquet_what_stands_beside_rewards_is_json_text(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(write(tmp_path / "out.parquet", PLAIN, RICH))
    assert {table.schema.field(name).type for name in BESIDE} == {pyarrow.string()}
    plain, rich = table.to_pylist()
    assert [plain[name] for name in BESIDE] == [None, None, None]
    assert rich["parts"] == '[{"harmless é": 0.1}, null]'
    assert [json.loads(rich[name]) for name in BESIDE] == [
        *(RICH.parts, RICH.disagreement, RICH.calibrated)
    ]
    assert rich["rewards"] == RICH.rewards


def test_a_parquet_output_is_written_a_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_output, "ROW_GROUP", 4)
    lines = [replace(PLAIN, line=number) for number in range(1, 11)]
    with pyarrow.parquet.ParquetFile(write(tmp_path / "out.parquet", *lines)) as file:
        assert file.metadata.num_row_groups == 3
        assert file.metadata.num_rows == 10


def test_whole_lines_are_gone_on_with_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with Partial(target, PINS, restart=False) as partial:
        partial.append(PLAIN.to_json())
    with (tmp_path / "out.jsonl.partial").open("a") as file:
        file.write('{"line": 2, "id')
    with Partial(target, PINS, restart=False) as partial:
        assert partial.count == 1
        partial.append(RICH.to_json())
        partial.finish()
    assert [record["line"] for record in read(target)] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


def test_lines_of_nobody_knows_what_are_not_gone_on_with(tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl.partial"
    lines.write_text("{}\n")
    with pytest.raises(JournalError, match="no telling of which job"):
        Partial(tmp_path / "out.jsonl", PINS, restart=False)
    assert lines.read_text() == "{}\n"
    with Partial(tmp_path / "out.jsonl", PINS, restart=True) as partial:
        assert partial.count == 0


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with Partial(target, PINS, restart=False), pytest.raises(JournalError, match="another process"):
        Partial(target, PINS, restart=False)
