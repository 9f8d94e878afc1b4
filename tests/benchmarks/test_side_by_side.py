from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import Controls, write_results
from benchmarks.side_by_side import main, side_by_side
from foundation.errors import UserError
from tests.benchmarks.evaluations import medical, score


def write(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    write_results(folder / "results.json", medical().model_copy(update=changes))
    return folder


def test_each_evaluation_stands_beside_its_controls() -> None:
    controls = Controls(longer_wins=score(0.8, 10), empty_question=score(0.61, 10))
    table = side_by_side({"medhallu/a": medical().model_copy(update={"controls": controls})})
    assert table.columns[4:] == ("longer wins", "another question", "empty question")
    [row] = table.rows
    assert (row[0], *row[4:]) == ("medhallu/a", "80.0", "–", "61.0")


def test_sections_have_rows_of_their_own() -> None:
    table = side_by_side({"a": medical()}, sections=True)
    assert [row[0] for row in table.rows] == ["a", "– Easy", "– Hard", "– Length", "– Human"]
    assert table.strong == {0}


def test_a_partial_evaluation_says_so() -> None:
    partial = {"partial": True, "partial_reasons": ("3 of 9 groups were asked",)}
    table = side_by_side({"a": medical().model_copy(update=partial)})
    assert table.notes == ("a: Partial: 3 of 9 groups were asked",)


def test_evaluations_below_a_folder_are_found_and_named_by_what_they_do_not_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "all/medhallu/b")
    write(tmp_path / "all/medhallu/a")
    write(tmp_path / "all/medec/a")
    assert main([str(tmp_path / "all"), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| m")] == [
        "| medec/a",
        "| medhallu/a",
        "| medhallu/b",
    ]


def test_results_of_other_jobs_below_a_folder_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "medhallu/a")
    other = tmp_path / "medical-qa/base/results.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"benchmark": "medical-qa", "overall": 0.5}')
    assert main([str(tmp_path), "--markdown"]) == 0
    assert "medical-qa" not in capsys.readouterr().out
    other.write_text('{"benchmark": "medi')
    with pytest.raises(UserError, match=r"medical-qa/base/results\.json: "):
        main([str(tmp_path)])


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results\.json in it; give the output folder"):
        main([str(tmp_path)])
