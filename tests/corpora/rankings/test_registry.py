"""Any source as ranked groups: found, told apart, streamed, and bad records counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from corpora.errors import CorpusError
from corpora.ranked import RankedGroup
from corpora.rankings.formats import part_of
from corpora.rankings.pairs import PAIRS
from corpora.rankings.registry import FORMATS, detect_format, find_format, read_ranked
from corpora.records import Record
from tests.corpora.rankings.reading import ASKED, DATA, record_of

PAIR = {"prompt": ASKED, "chosen": "Saline.", "rejected": "Antibiotics."}


def write(path: Path, rows: Iterable[object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_formats_are_found_by_name() -> None:
    assert {find_format(name).name for name in FORMATS} == set(FORMATS)
    with pytest.raises(CorpusError, match=r"format: 'pears' is not known; .*llmbar, .*, pairs$"):
        find_format("pears")


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_a_format_describes_its_record_in_a_line(format: Any) -> None:
    assert 0 < len(format.layout) <= 100
    assert "\n" not in format.layout


def test_fields_that_tell_no_format_are_named() -> None:
    with pytest.raises(CorpusError, match=r"^f\.jsonl:7: its fields \(text, score\) tell no"):
        detect_format(record_of(text="a", score=1))


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("data/shp.jsonl", "shp"),
        ("data/anthropic_hhh-00000-of-00001.parquet", "anthropic_hhh"),
        ("data/shp-00003-of-00010-7e4a6873c1162924.parquet", "shp"),
        ("data/shp-00000.parquet", "shp"),
        ("data/MT-Bench.json", "MT-Bench"),
        ("Adversarial/GPTInst/dataset.json", "GPTInst"),
        ("shp/data-00000-of-00001.parquet", "shp"),
    ],
)
def test_a_part_is_called_like_its_file_or_folder(path: str, part: str) -> None:
    assert part_of(Path(path)) == part


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    for name, asked in (("b", "1"), ("a", "2"), ("c", "3")):
        write(tmp_path / f"{name}.jsonl", [PAIR | {"prompt": asked}])
    groups = list(read_ranked(str(tmp_path), None))
    assert [group.id for group in groups] == ["a:1", "b:1", "c:1"]
    assert [group.conversation.last for group in groups] == ["2", "1", "3"]


def test_a_split_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path / "data/train.jsonl", [PAIR])
    write(tmp_path / "data/test.jsonl", [PAIR, PAIR])
    assert len(list(read_ranked(str(tmp_path), PAIRS, split="test"))) == 2


def test_parquet_is_read_by_the_columns_of_the_format(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([PAIR | {"id": 3, "other": "x"}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    seen: list[Record] = []

    def parse(record: Record, part: str) -> Iterable[RankedGroup]:
        seen.append(record)
        return PAIRS.parse(record, part)

    [group] = read_ranked(str(tmp_path), replace(PAIRS, parse=parse))
    assert group.id == "3"
    assert set(seen[0].fields) == {"id", *PAIR}


def test_a_bad_record_ends_the_reading_by_default(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [PAIR, PAIR | {"chosen": 7}, PAIR])
    groups = read_ranked(source, None)
    next(groups)
    with pytest.raises(CorpusError, match=r"a\.jsonl:2: chosen: expected text or messages, got 7"):
        next(groups)


def test_bad_records_are_counted_and_the_others_read(tmp_path: Path) -> None:
    rows: list[object] = [{"text": "a"}, PAIR, 7, PAIR | {"chosen": None}, PAIR]
    source = write(tmp_path / "a.jsonl", rows)
    bad: list[CorpusError] = []
    assert [group.id for group in read_ranked(source, None, on_bad=bad.append)] == ["a:2", "a:5"]
    places = [str(error).removeprefix(str(tmp_path)).split(": ")[:2] for error in bad]
    assert places == [
        ["/a.jsonl:1", "its fields (text) tell no format; name one of " + ", ".join(FORMATS)],
        ["/a.jsonl:3", "expected a JSON object, got 7; mend it"],
        ["/a.jsonl:4", "chosen"],
    ]


def test_a_file_that_cannot_be_read_fails_whatever_is_skipped(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [PAIR])
    (tmp_path / "b.parquet").write_text("not this", encoding="utf-8")
    groups = read_ranked(str(tmp_path), PAIRS, on_bad=lambda _: None)
    next(groups)
    with pytest.raises(CorpusError, match=r"b\.parquet: cannot be read as Parquet"):
        next(groups)


@pytest.mark.parametrize("rows", [pytest.param([], id="empty"), pytest.param([7, {}], id="bad")])
def test_a_source_without_a_group_is_an_error(tmp_path: Path, rows: list[object]) -> None:
    source = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(CorpusError, match=r"a\.jsonl: no record gives a group; give ranked data"):
        list(read_ranked(source, None, on_bad=lambda _: None))


def test_groups_are_made_as_they_are_asked_for(tmp_path: Path) -> None:
    made: list[str] = []

    def parse(record: Record, part: str) -> Iterator[RankedGroup]:
        made.append(f"{part}:{record.number}")
        yield from PAIRS.parse(record, part)

    source = write(tmp_path / "a.jsonl", [PAIR] * 50)
    groups = read_ranked(source, replace(PAIRS, parse=parse))
    assert len(list(islice(groups, 3))) == len(made) == 3
    assert len(list(read_ranked(source, PAIRS, limit=4))) == 4
    assert len(list(read_ranked(source, PAIRS, limit=400))) == 50


def real(name: str) -> str:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} under {DATA}; set MEDPREF_DATA")
    return str(path)


@pytest.mark.parametrize(
    ("name", "format", "subsets", "bad"),
    [
        ("llmbar-processed", "llmbar", {"FairEval": 66, "LLMEval2": 200, "MT-Bench": 200}, 0),
        ("pandalm/testset-v1.json", "pandalm", {"": 993}, 6),
        ("medhallu/train.jsonl", "medhallu", {"easy": 138, "medium": 155, "hard": 207}, 0),
        (
            "medhallu/train.jsonl",
            "medhallu-knowledge",
            {"easy": 138, "medium": 155, "hard": 207},
            0,
        ),
        (
            "medec/validation.csv",
            "medec",
            {"management": 149, "diagnosis": 79, "treatment": 23}
            | {"pharmacotherapy": 22, "causalOrganism": 11},
            0,
        ),
        (
            "ultramedical-preference/validation.jsonl",
            "ultramedical-preference",
            {"easy": 52, "hard": 77, "length": 71},
            0,
        ),
        *(
            (
                f"ultramedical-preference/anonymised-{part}.jsonl",
                "ultramedical-preference",
                whole,
                0,
            )
            for part, whole in (("val", {"": 200}), ("test", {"": 200}))
        ),
    ],
)
def test_the_documented_counts_of_real_data_hold(
    name: str, format: str, subsets: dict[str, int], bad: int
) -> None:
    source, errors = real(name), list[CorpusError]()
    groups = list(read_ranked(source, find_format(format), on_bad=errors.append))
    assert Counter(group.subset for group in groups) == subsets
    assert len(errors) == bad
    assert all("the JSON boolean true" in str(e) or "boolean false" in str(e) for e in errors)
    if format != "medhallu-knowledge":  # that one has to be asked for
        assert list(read_ranked(source, None, on_bad=errors.append)) == groups


def test_real_verdicts_come_out_as_the_annotators_gave_them() -> None:
    groups = list(read_ranked(real("pandalm"), None, on_bad=lambda _: None))
    ranks = Counter(group.ranks for group in groups)
    assert sum(ranks.values()) == 993
    assert ranks[1, 1] == sum(group.is_tie for group in groups) == 105


def test_half_of_a_surrogate_pair_is_a_bad_record_where_results_tell_it(tmp_path: Path) -> None:
    half = "\ud83d"
    source = write(tmp_path / "a.jsonl", [PAIR, PAIR | {"id": half}, PAIR | {"subset": half}])
    bad: list[CorpusError] = []
    assert len(list(read_ranked(source, PAIRS, on_bad=bad.append))) == 1
    assert [str(error).split(": ")[1] for error in bad] == ["id", "subset"]
    in_text = write(tmp_path / "b.jsonl", [PAIR | {"chosen": half}])
    assert [group.candidates[0] for group in read_ranked(in_text, PAIRS)] == [half]
