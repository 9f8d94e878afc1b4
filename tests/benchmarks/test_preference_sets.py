import pytest

from benchmarks.boards import mean, size
from benchmarks.errors import BenchmarkError
from benchmarks.preference_sets import board
from tests.benchmarks.groups import EQUAL, FAILED, pairs, scored


def test_the_overall_score_is_over_groups_and_the_mean_of_subsets_beside_it() -> None:
    scores = board([*pairs("cardiology", won=3, lost=1), *pairs("dermatology", lost=1)])

    assert mean(scores.overall) == pytest.approx(3 / 5)
    assert mean(scores.alternatives["mean_of_subsets"]["overall"]) == pytest.approx(0.75 / 2)
    assert {name: mean(tree) for name, tree in scores.sections.items()} == {
        "cardiology": 0.75,
        "dermatology": 0,
    }
    assert scores.missing == ()


def test_a_set_without_subsets_has_no_sections() -> None:
    scores = board(pairs("", won=1, lost=1))

    assert mean(scores.overall) == 0.5
    assert scores.sections == {}
    assert scores.alternatives == {}


def test_groups_without_a_subset_have_a_name_beside_those_with_one() -> None:
    assert board([*pairs("", won=1), *pairs("ent", lost=1)]).sections.keys() == {"unnamed", "ent"}


def test_ties_of_the_data_and_failed_groups_are_in_no_score() -> None:
    scores = board([*pairs("a", won=1), scored("a", [1.0, 2.0], ranks=[1, 1]), scored("b", FAILED)])

    assert size(scores.overall) == 1
    assert scores.sections.keys() == {"a"}


def test_a_ranked_group_is_worth_its_share_of_pairs() -> None:
    scores = board([scored("a", [3.0, 1.0, 2.0], ranks=[1, 2, 3])])

    assert mean(scores.overall) == pytest.approx(2 / 3)


def test_equal_rewards_lose_unless_asked_otherwise() -> None:
    assert mean(board([scored("a", EQUAL)]).overall) == 0
    assert mean(board([scored("a", EQUAL)], ties="half").overall) == 0.5


def test_without_any_scored_group_there_is_no_score() -> None:
    with pytest.raises(BenchmarkError, match="no group is scored"):
        board([scored("a", FAILED), scored("a", [1.0, 2.0], ranks=[1, 1])])
