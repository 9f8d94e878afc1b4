from collections.abc import Iterable

import pytest

from benchmarks import medical_rewardbench, rewardbench, rewardbench2, rm_bench
from benchmarks.boards import Leaf, Node, Tree, mean
from benchmarks.published import PublishedRow, published, suites_published
from benchmarks.suites import SUITES
from tests.benchmarks.groups import pairs

QUESTION_SETS = {
    "med_qa",
    "med_mcqa",
    "pubmed_qa",
    "clinical_knowledge",
    "medical_genetics",
    "anatomy",
    "professional_medicine",
    "college_biology",
    "college_medicine",
}
COLUMNS = {
    "rewardbench": {*rewardbench.SECTION_WEIGHTS},
    "rewardbench2": {*rewardbench2.SIZES},
    "medical-rewardbench": {*medical_rewardbench.SIZES},
    "rm-bench": {*rm_bench.DOMAINS, *rm_bench.DIFFICULTIES},
    "medical-qa": QUESTION_SETS,
    "usmle": {"step1", "step2", "step3"},
    "long-form": {"completeness", "hallucination"},
}
AVERAGED = {
    "rewardbench": {*rewardbench.SECTIONS},
    "rewardbench2": {*rewardbench2.SIZES},
    "medical-rewardbench": {*medical_rewardbench.SIZES},
    "rm-bench": {*rm_bench.DOMAINS},
    "medical-qa": QUESTION_SETS,
}
"""Columns without which an average cannot be recomputed."""

DO_NOT_FOLLOW = {
    ("rm-bench", "FsfairX-LLaMA3-RM-v0.1"): 69.4,
    ("rm-bench", "Skywork-Reward-Llama-3.1-8B-v0.2"): 70.2,
}
"""Rows whose printed average is not that of their columns, with what it would be."""


def rows(*suites: str) -> Iterable[tuple[str, PublishedRow]]:
    return ((suite, row) for suite in suites or suites_published() for row in published(suite))


def recomputed(suite: str, row: PublishedRow) -> float:
    parts: dict[str, Tree] = {name: Leaf((score,)) for name, score in row.scores.items()}
    if suite == "rewardbench":
        return mean(rewardbench.overall(parts))
    return mean(Node({name: parts[name] for name in AVERAGED[suite]}))


def rounding(row: PublishedRow) -> float:
    """How far a mean of rounded columns can be from a rounded mean."""
    return sum(0.5 * 10.0 ** -max(map(decimals, numbers)) for numbers in split(row)) + 1e-9


def split(row: PublishedRow) -> tuple[list[float], list[float]]:
    assert row.overall is not None
    return list(row.scores.values()), [row.overall]


def decimals(number: float) -> int:
    return len(str(number).partition(".")[2])


@pytest.mark.parametrize("suite", COLUMNS)
def test_each_suite_has_rows_whose_columns_are_its_own(suite: str) -> None:
    table = published(suite)

    assert table
    assert all(row.system and row.source and (row.scores or row.overall) for row in table)
    assert set().union(*(row.scores for row in table)) <= COLUMNS[suite]
    assert all(0 <= score <= 100 for row in table for score in row.scores.values())


def test_there_are_rows_for_every_benchmark_and_none_for_what_nobody_published() -> None:
    assert set(suites_published()) == set(COLUMNS)
    assert set(SUITES) - set(COLUMNS) == {"pairs"}
    assert published("pairs") == ()


@pytest.mark.parametrize(
    ("suite", "row"),
    [
        pytest.param(suite, row, id=f"{suite}: {row.system}")
        for suite, row in rows(*AVERAGED)
        if AVERAGED[suite] <= row.scores.keys()
    ],
)
def test_a_published_average_follows_from_its_columns_by_our_rule(
    suite: str, row: PublishedRow
) -> None:
    ours = recomputed(suite, row)

    if (suite, row.system) in DO_NOT_FOLLOW:
        assert ours == pytest.approx(DO_NOT_FOLLOW[suite, row.system], abs=0.06)
        assert str(DO_NOT_FOLLOW[suite, row.system]) in row.note
        assert abs(ours - (row.overall or 0)) > 1
    else:
        assert ours == pytest.approx(row.overall, abs=rounding(row))


def test_the_averages_that_everybody_quotes() -> None:
    ours = {
        (suite, row.system): round(recomputed(suite, row), 2)
        for suite, row in rows("rewardbench", "medical-rewardbench")
        if row.source.startswith("UltraMedical")
    }

    assert ours["medical-rewardbench", "UltraMedRM-8B"] == 80.53
    assert ours["rewardbench", "UltraMedRM-8B"] == 85.53


def test_every_figure_of_medical_rewardbench_is_a_count_of_wins_and_ties() -> None:
    for _, row in rows("medical-rewardbench"):
        for name, score in row.scores.items():
            n = medical_rewardbench.SIZES[name]
            halves = round(2 * n * score / 100)
            groups = pairs(name, won=halves // 2, equal=halves % 2)
            groups += pairs(name, lost=n - len(groups))

            ours = 100 * mean(medical_rewardbench.board(groups).overall)

            assert ours == pytest.approx(score, abs=0.00501), (row.system, name)


def test_difficulties_of_rm_bench_have_the_mean_of_its_domains() -> None:
    for suite, row in rows("rm-bench"):
        difficulties = [row.scores[name] for name in rm_bench.DIFFICULTIES if name in row.scores]
        if len(difficulties) == 3 and (suite, row.system) not in DO_NOT_FOLLOW:
            assert sum(difficulties) / 3 == pytest.approx(row.overall, abs=0.15), row.system


def test_rows_of_old_weights_and_of_pairwise_models_say_so() -> None:
    old = {row.source.partition(",")[0] for _, row in rows("rewardbench") if "2024-09" in row.note}
    pairwise = {row.system for _, row in rows() if "pairwise" in row.note}

    assert old == {"ArmoRM", "UltraMedical"}
    assert "pair-preference-model-LLaMA3-8B" in pairwise
