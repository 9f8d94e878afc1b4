"""Lines that outlive a kill, and are gone on with by the same job only."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import JobError
from foundation.journal import Journal, JournalError, read_journal, writing

PINS = {"input": "i", "limit": None}


def fill(path: Path, *lines: str) -> int:
    with Journal(path, PINS) as journal:
        for line in lines:
            journal.append(line)
        return journal.count


def test_lines_are_gone_on_with_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    assert fill(path, '{"n": 1}', '{"n": 2}') == 2
    with path.open("a") as file:
        file.write('{"n": 3')
    assert [line["n"] for line in read_journal(path)] == [1, 2]
    assert fill(path, '{"n": 3}') == 3
    assert [line["n"] for line in read_journal(path)] == [1, 2, 3]


def test_another_job_is_told_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    fill(path, "{}")
    with pytest.raises(JournalError, match=r"begun with limit None, now it is 7; .* --restart$"):
        Journal(path, PINS | {"limit": 7})
    with pytest.raises(JournalError, match="begun with view None, now it is 'empty'"):
        Journal(path, PINS | {"view": "empty"})
    with Journal(path, PINS | {"limit": 7}, restart=True) as journal:
        assert journal.count == 0


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_lines_of_no_known_job_are_kept(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scores.jsonl"
    fill(path, "{}")
    pins = tmp_path / "scores.jsonl.json"
    pins.unlink() if content is None else pins.write_text(content)
    with pytest.raises(JournalError, match="no telling of which job"):
        Journal(path, PINS)
    assert path.read_text() == "{}\n"


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with Journal(path, PINS), pytest.raises(JournalError, match="another process is writing it"):
        Journal(path, PINS)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"n": 1}\n{"n"\n')
    lines = read_journal(path)
    next(lines)
    with pytest.raises(JournalError, match=r"scores\.jsonl:2: is damaged"):
        next(lines)


def test_a_full_disk_fails_the_job_in_one_line(tmp_path: Path) -> None:
    words = r"cannot be written \(No space left\); make room"
    with pytest.raises(JobError, match=words), writing(tmp_path / "scores.jsonl"):
        raise OSError(28, "No space left")


def test_a_last_line_is_torn_only_where_it_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}')
    assert [line["n"] for line in read_journal(path)] == [1, 2]
    path.write_text('{"n": 1}\n{"n": 2')
    assert [line["n"] for line in read_journal(path)] == [1]
