"""Scores of the suites: what counts, and the average that UltraMedical publishes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.boards import Leaf, mean
from benchmarks.published import PublishedRow, published
from benchmarks.qa.answered import Answered
from benchmarks.qa.boards import COLUMNS, board, of_sections

FULL = [row for row in published("medical-qa") if set(row.scores) == set(COLUMNS)]


def answered(section: str, choice: str | None, **changes: Any) -> Answered:
    fields = {
        "mode": "greedy",
        "number": 0,
        "id": "q",
        "digest": "d",
        "section": section,
        "subset": "",
        "answer": "A",
        "choice": choice,
    }
    return Answered.model_validate(fields | changes)


def scores(*lines: Answered) -> dict[str, float]:
    found = board(lines)
    assert found is not None
    parts = {**found.sections, **found.subsets, "overall": found.overall}
    return {name: mean(tree) for name, tree in parts.items()}


ROUNDING = 0.05 + 0.005
"""Columns are printed with one decimal, averages with two: what that may change of a mean."""

SIZES = dict(zip(COLUMNS, (1273, 4183, 500, 265, 100, 135, 272, 144, 173), strict=True))
"""Questions of each column."""


@pytest.mark.parametrize("row", [pytest.param(row, id=row.system) for row in FULL])
def test_the_overall_score_is_the_average_that_is_published(row: PublishedRow) -> None:
    sections = {name: Leaf((score,)) for name, score in row.scores.items()}
    assert mean(of_sections(sections, {}).overall) == pytest.approx(row.overall, abs=ROUNDING)
    pooled = sum(SIZES[name] * score for name, score in row.scores.items()) / sum(SIZES.values())
    assert pooled != pytest.approx(row.overall, abs=1), "so it is no mean over questions"


def test_a_published_average_by_hand() -> None:
    """617 / 9 = 68.56 for Llama-3-8B-Instruct."""
    [row] = [row for row in FULL if row.system == "Llama-3-8B-Instruct"]
    assert round(sum(row.scores.values()), 1) == 617.0
    sections = {name: Leaf((score,)) for name, score in row.scores.items()}
    assert round(mean(of_sections(sections, {}).overall), 2) == row.overall == 68.56


def test_enough_rows_are_published_in_full() -> None:
    assert len(FULL) >= 10


def test_suites_weigh_the_same_whatever_their_size() -> None:
    lines = [answered("med_qa", "A"), *(answered("anatomy", "B") for _ in range(9))]
    assert scores(*lines) == {"med_qa": 1.0, "anatomy": 0.0, "overall": 0.5}


def test_no_choice_is_wrong_and_an_error_is_in_no_score() -> None:
    lines = [
        answered("med_qa", "A"),
        answered("med_qa", None),
        answered("med_qa", None, error="too long"),
    ]
    assert scores(*lines) == {"med_qa": 0.5, "overall": 0.5}
    assert board(lines[2:]) is None


def test_what_is_no_column_of_the_table_stands_beside_the_overall_score() -> None:
    found = board([answered("step1", "B"), answered("med_qa", "A"), answered("anatomy", "A")])
    assert found is not None
    assert mean(found.overall) == 1.0
    assert list(found.sections) == ["med_qa", "anatomy", "step1"]
    assert found.missing == tuple(name for name in COLUMNS if name not in ("med_qa", "anatomy"))


def test_without_any_column_all_sections_count() -> None:
    found = board([answered("mirage/medqa", "B"), answered("mirage/bioasq", "A")])
    assert found is not None
    assert (mean(found.overall), found.missing) == (0.5, ())


def test_subjects_are_subsets_of_their_suite_in_the_order_of_the_data() -> None:
    lines = [
        answered("med_mcqa", "A", subset="Surgery", number=5),
        answered("med_mcqa", "B", subset="Surgery", number=2),
        answered("anatomy", "A", subset="anatomy"),
    ]
    found = board(lines)
    assert found is not None
    assert found.subsets == {"med_mcqa/Surgery": Leaf((0.0, 1.0), (2, 5))}
