import pytest

from benchmarks.boards import mean, size
from benchmarks.errors import BenchmarkError
from benchmarks.medical_rewardbench import SIZES, board
from tests.benchmarks.groups import FAILED, pairs, scored


def test_the_parts_have_the_published_sizes() -> None:
    assert sum(SIZES.values()) == 777


def test_published_percentages_are_counts_over_the_parts() -> None:
    scores = board(
        [
            *pairs("easy", won=215, lost=23),
            *pairs("hard", won=145, lost=51),
            *pairs("length", won=120, lost=60),
            *pairs("human", won=113, lost=50),
        ]
    )

    in_per_cent = {name: round(100 * mean(tree), 2) for name, tree in scores.sections.items()}
    assert in_per_cent == {"Easy": 90.34, "Hard": 73.98, "Length": 66.67, "Human": 69.33}
    assert round(100 * mean(scores.overall), 2) == 75.08
    assert {name: size(tree) for name, tree in scores.subsets.items()} == SIZES
    assert scores.missing == ()


def test_a_pairwise_model_s_tie_counts_one_half() -> None:
    groups = pairs("hard", won=142, lost=53, equal=1)

    assert round(100 * mean(board(groups).overall), 2) == 72.70  # 142.5 / 196
    assert round(100 * mean(board(groups, ties="loss").overall), 2) == 72.45


def test_the_overall_score_does_not_weigh_parts_by_their_size() -> None:
    scores = board([*pairs("Easy", won=9, lost=1), *pairs("human", lost=1)])

    assert mean(scores.overall) == pytest.approx(0.45)
    assert scores.missing == ("Hard", "Length")


@pytest.mark.parametrize("label", ["easy", "Easy", "EASY", " easy "])
def test_a_label_is_known_in_any_case(label: str) -> None:
    assert board(pairs(label, won=1)).sections.keys() == {"Easy"}


def test_another_label_is_an_error_that_names_it() -> None:
    with pytest.raises(BenchmarkError, match="Medical RewardBench has no 'medium'"):
        board([*pairs("easy", won=1), *pairs("medium", won=1)])


def test_a_part_whose_groups_all_failed_is_missing() -> None:
    scores = board([*pairs("easy", won=1), scored("hard", FAILED)])

    assert scores.missing == ("Hard", "Length", "Human")
