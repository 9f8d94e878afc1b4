from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.compare import (
    Evaluated,
    compare,
    main,
    mcnemar_p,
    p_value,
    pair_groups,
    signed,
    to_table,
)
from benchmarks.errors import BenchmarkError, ScoresError
from benchmarks.results import Controls, Counts, Results, write_results
from benchmarks.scored import ScoredGroup
from benchmarks.suites import SUITES
from foundation.errors import UserError

RIGHT, WRONG = (1.0, 0.0), (0.0, 1.0)
PAIRS = SUITES["pairs"]


def group(
    digest: str,
    rewards: tuple[float | None, ...],
    *,
    number: int = 0,
    subset: str = "a",
    name: str = "x",
) -> ScoredGroup:
    errors = tuple("timeout: none" if reward is None else None for reward in rewards)
    return ScoredGroup(number, name, subset, digest, (1, 2), rewards, errors)


def results(model: str, benchmark: str = "pairs") -> Results:
    return Results(
        benchmark=benchmark,
        model=model,
        overall=0.5,
        overall_ci95=(0.4, 0.6),
        sections={},
        subsets={},
        controls=Controls(),
        counts=Counts(groups=2, scored=2, failed=0),
        fingerprint=None,
        settings={},
        partial=False,
    )


def evaluated(model: str, *groups: ScoredGroup, benchmark: str = "pairs") -> Evaluated:
    numbered = [
        ScoredGroup(n, g.id, g.subset, g.digest, g.ranks, g.rewards, g.errors)
        for n, g in enumerate(groups)
    ]
    return Evaluated(results(model, benchmark), tuple(numbered))


A = evaluated(
    "org/a",
    group("1", RIGHT),
    group("2", WRONG),
    group("3", RIGHT, subset="b"),
    group("4", WRONG, subset="b"),
    group("only a", RIGHT),
)
B = evaluated(
    "org/b",
    group("only b", RIGHT),
    group("4", RIGHT, subset="b"),
    group("3", RIGHT, subset="b"),
    group("2", RIGHT),
    group("1", WRONG),
    group("only b too", WRONG),
)


def test_models_are_compared_on_their_common_groups() -> None:
    found = compare(A, B, PAIRS)
    assert (found.benchmark, found.a, found.b) == ("pairs", "org/a", "org/b")
    assert (found.common, found.only_in_a, found.only_in_b) == (4, 1, 2)
    overall = found.overall
    assert (overall.n, overall.a, overall.b, overall.difference) == (4, 0.5, 0.75, 0.25)
    assert (overall.only_a_right, overall.only_b_right) == (1, 2)
    assert overall.mcnemar_p == 1.0  # 2 * (1 + 3) / 8
    assert overall.ci95[0] <= 0.25 <= overall.ci95[1]


def test_each_subset_is_compared_by_itself() -> None:
    first, second = compare(A, B, PAIRS).subsets
    assert (first.name, first.a, first.b) == ("a", 0.5, 0.5)
    assert (first.only_a_right, first.only_b_right) == (1, 1)
    assert (second.name, second.a, second.b) == ("b", 0.5, 1.0)
    assert (second.only_a_right, second.only_b_right) == (0, 1)


def test_groups_are_the_same_by_digest_and_not_by_id() -> None:
    a = [group("1", RIGHT, name="same"), group("2", WRONG, name="same")]
    b = [group("2", RIGHT, name="same"), group("1", WRONG, name="other")]
    pairs = pair_groups(a, b)
    assert [(first.digest, second.digest) for first, second in pairs] == [("1", "1"), ("2", "2")]
    assert [(first.number, second.number) for first, second in pairs] == [(0, 0), (1, 1)]
    assert [second.id for _, second in pairs] == ["same", "same"]


def test_a_group_that_is_there_twice_is_paired_as_often_as_in_both() -> None:
    a = [group("1", RIGHT), group("1", WRONG), group("1", RIGHT)]
    b = [group("1", WRONG), group("1", RIGHT)]
    assert [(x.rewards, y.rewards) for x, y in pair_groups(a, b)] == [
        (RIGHT, WRONG),
        (WRONG, RIGHT),
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(group("", RIGHT), id="no digest"),
        pytest.param(group("1", (None, 1.0)), id="no reward"),
        pytest.param(
            ScoredGroup(0, "x", "a", "1", (2, 1), RIGHT, (None, None)), id="ranked otherwise"
        ),
    ],
)
def test_a_group_that_is_not_scored_in_both_is_not_paired(other: ScoredGroup) -> None:
    mine = group(other.digest, RIGHT)
    assert pair_groups([mine], [other]) == []
    assert pair_groups([other], [mine]) == []


def test_other_benchmarks_are_refused() -> None:
    other = evaluated("org/b", group("1", RIGHT), benchmark="rm-bench")
    with pytest.raises(BenchmarkError, match="A is of pairs, B of rm-bench"):
        compare(A, other, PAIRS)


def test_other_data_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no group has rewards in both"):
        compare(A, evaluated("org/b", group("unseen", RIGHT)), PAIRS)


def test_the_suites_own_rule_counts_equal_rewards() -> None:
    equal = group("1", (1.0, 1.0), subset="Easy")
    right = group("1", RIGHT, subset="Easy")
    name = "medical-rewardbench"
    a, b = (evaluated("m", one, benchmark=name) for one in (equal, right))
    assert compare(a, b, SUITES[name]).overall.difference == 0.5


def test_sections_that_are_the_subsets_are_shown_once() -> None:
    names = [change.name for change in compare(A, B, PAIRS).changes]
    assert names == ["Overall", "a", "b"]


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        pytest.param(0, 0, 1.0, id="no difference at all"),
        pytest.param(1, 2, 1.0, id="one against two"),
        pytest.param(0, 5, 2 / 32, id="five of five"),
        pytest.param(1, 9, 2 * (1 + 10) / 1024, id="nine of ten"),
        pytest.param(3, 3, 1.0, id="as many"),
    ],
)
def test_mcnemars_p_is_that_of_coins(first: int, second: int, p: float) -> None:
    assert mcnemar_p(first, second) == mcnemar_p(second, first) == p


def test_mcnemars_p_of_thousands_is_a_number() -> None:
    assert 0 < mcnemar_p(1400, 1585) < 0.001


answers = st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans()), min_size=1)


@given(answers)
def test_comparing_the_other_way_round_changes_the_sign(
    rows: list[tuple[str, bool, bool]],
) -> None:
    a, b = (one_side(rows, side) for side in (1, 2))
    there, back = compare(a, b, PAIRS), compare(b, a, PAIRS)
    for change, other in zip(there.changes, back.changes, strict=True):
        assert change.difference == pytest.approx(-other.difference, abs=1e-12)
        assert (change.a, change.b) == (other.b, other.a)
        assert change.only_a_right == other.only_b_right
        assert change.mcnemar_p == other.mcnemar_p
        gained = change.only_b_right - change.only_a_right
        assert change.difference == pytest.approx(gained / change.n)


def one_side(rows: Sequence[tuple[str, bool, bool]], side: int) -> Evaluated:
    groups = (
        group(str(n), RIGHT if row[side] else WRONG, subset=row[0]) for n, row in enumerate(rows)
    )
    return evaluated("m", *groups)


def test_the_same_model_is_as_good_as_itself() -> None:
    overall = compare(A, A, PAIRS).overall
    assert (overall.difference, overall.ci95, overall.p) == (0.0, (0.0, 0.0), 1.0)


def test_the_table_says_who_is_compared_and_on_what() -> None:
    table = to_table(compare(A, B, PAIRS))
    assert table.rows[0][:4] == ("Overall", "50.0", "75.0", "+25.0")
    assert table.rows[0][6:] == ("1", "2", "1.000", "4")
    assert "A org/a, B org/b: 4 common groups; 1 scored in A only, 2 in B only." in table.notes


@pytest.mark.parametrize(
    ("share", "text"), [(0.0123, "+1.2"), (-0.004, "−0.4"), (0.0001, "0.0"), (-0.0001, "0.0")]
)
def test_a_difference_has_its_sign(share: float, text: str) -> None:
    assert signed(share) == text


def test_a_tiny_p_is_not_printed_as_zero() -> None:
    assert (p_value(0.0001), p_value(0.0314)) == ("< 0.001", "0.031")


def save(folder: Path, evaluation: Evaluated) -> Path:
    folder.mkdir()
    write_results(folder / "results.json", evaluation.results)
    lines = "".join(one.to_json() + "\n" for one in evaluation.groups)
    (folder / "scores.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_the_command_compares_two_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save(tmp_path / "a", A), save(tmp_path / "b", B)
    assert main([str(a), str(b), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "pairs: B against A" in printed
    content = json.loads(printed.splitlines()[-1])
    assert content == json.loads((tmp_path / "out/compare.json").read_text())
    assert content["overall"]["difference"] == 0.25
    assert content["only_in_b"] == 2
    assert "| **Overall** |" in (tmp_path / "out/compare.md").read_text(encoding="utf-8")


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    a = save(tmp_path / "a", A)
    with pytest.raises(ScoresError, match="none: no such file"):
        main([str(a), str(tmp_path / "none")])


def test_an_unknown_benchmark_is_one_line(tmp_path: Path) -> None:
    a = save(tmp_path / "a", evaluated("m", group("1", RIGHT), benchmark="mine"))
    with pytest.raises(UserError, match="'mine' is not one of rewardbench, "):
        main([str(a), str(a)])
