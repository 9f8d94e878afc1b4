"""Data are checked and counted before anybody is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evaluation.data import Data, Source
from corpora.errors import CorpusError
from corpora.rankings.registry import find_format

GOOD: dict[str, Any] = {"prompt": "What helps?", "chosen": "Rest.", "rejected": "Gold."}


def write(path: Path, *records: dict[str, Any]) -> Source:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return Source(str(path), find_format("pairs"))


def test_a_survey_counts_groups_subsets_and_bad_records(tmp_path: Path) -> None:
    a, b = GOOD | {"subset": "a"}, GOOD | {"subset": "b"}
    one = write(tmp_path / "one.jsonl", a, {"prompt": 7}, b, b)
    other = write(tmp_path / "other.jsonl", a, {})
    data = Data([one, other], skip_bad=True)
    survey = data.survey()
    assert survey.groups == 4
    assert [group.subset for group in survey.examples] == ["a", "b"]
    assert survey.bad_records == 2
    assert "one.jsonl:2: " in survey.bad_shown[0]
    assert "other.jsonl:2: " in survey.bad_shown[1]
    assert len(list(data.stream())) == 4


def test_a_bad_record_ends_the_job_unless_it_may_be_skipped(tmp_path: Path) -> None:
    data = Data([write(tmp_path / "one.jsonl", GOOD, {"prompt": 7})])
    with pytest.raises(CorpusError, match=r"one\.jsonl:2: "):
        data.survey()


def test_the_digest_is_that_of_groups_ranks_and_subsets_in_order(tmp_path: Path) -> None:
    other = GOOD | {"prompt": "And what else?"}

    def digest(name: str, *records: dict[str, Any]) -> str:
        return Data([write(tmp_path / name, *records)]).survey().digest

    first = digest("a.jsonl", GOOD, other)
    assert digest("b.jsonl", GOOD, other | {"note": "x"}) == first
    assert digest("c.jsonl", other, GOOD) != first
    assert digest("d.jsonl", GOOD | {"subset": "s"}, other) != first


def test_a_limit_is_over_all_sources(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.jsonl", GOOD, GOOD), write(tmp_path / "b.jsonl", GOOD, GOOD)
    assert Data([one, other], limit=3).survey().groups == 3


@pytest.mark.parametrize(("limit", "is_cut"), [(None, False), (1, True), (2, False), (3, False)])
def test_a_limit_that_leaves_nothing_out_cuts_nothing(
    tmp_path: Path, limit: int | None, is_cut: bool
) -> None:
    data = Data([write(tmp_path / "one.jsonl", GOOD, GOOD)], limit=limit)
    assert data.survey().is_cut == is_cut


def test_a_bad_record_behind_the_limit_is_nobodys_concern(tmp_path: Path) -> None:
    survey = Data([write(tmp_path / "one.jsonl", GOOD, {"prompt": 7})], limit=1).survey()
    assert (survey.groups, survey.is_cut) == (1, True)
