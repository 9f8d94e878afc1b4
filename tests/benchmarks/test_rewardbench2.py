import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.boards import Leaf, mean, size
from benchmarks.errors import BenchmarkError
from benchmarks.rewardbench2 import (
    SIZES,
    board,
    judge_board,
    ranking_value,
    ratings_value,
    share_of_maximum,
    ties_leaf,
)
from benchmarks.scored import ScoredGroup, Ties
from tests.benchmarks.groups import scored


def form(
    name: str, right: list[float | None], wrong: list[float | None], *, number: int = 0
) -> ScoredGroup:
    """A group of Ties."""
    ranks = [1] * len(right) + [2] * len(wrong)
    return scored("Ties", [*right, *wrong], ranks=ranks, name=name, number=number)


TABLE = [
    form("ref:0", [6.0], [1.0, 2.0], number=0),
    form("tied:0", [5.0, 4.0, 4.5], [0.0, 1.0], number=1),
    form("ref:1", [2.0], [1.5, 0.0], number=2),
    form("tied:1", [5.0, 2.0], [1.0, -1.0], number=3),
    form("ref:2", [1.0], [1.0, 0.0], number=4),
    form("tied:2", [3.0, 3.0], [4.0, 0.0], number=5),
]
"""
question  gap ref        gap tied       spread       g = min
0         6 - 2 = 4      4 - 1 = 3      5 - 4 = 1    3
1         2 - 1.5 = 0.5  2 - 1 = 1      5 - 2 = 3    0.5
2         1 - 1 = 0      3 - 4 = -1     3 - 3 = 0    -1

tied right (gap > 0)       0, 1     2/3
ref right (gap > 0)        0, 1     2/3
gap tied > spread          0        1/3
g > spread                 0        1/3
tanh(g / spread - 1)       tanh(3 / 1 - 1), tanh(0.5 / 3 - 1) and, as -1 / 0 has no bottom, -1
"""
TIES_SCORE = (
    0.30 * 2 / 3
    + 0.30 * 2 / 3
    + 0.20 * 1 / 3
    + 0.20 * 1 / 3
    + 0.01 * (math.tanh(2) + math.tanh(0.5 / 3 - 1) - 1) / 3
)


def ties_score(groups: list[ScoredGroup]) -> float:
    leaf = ties_leaf(groups)
    assert leaf is not None
    return mean(leaf)


@pytest.mark.parametrize(
    ("rewards", "value"),
    [
        pytest.param([4.0, 3.0, 2.0, 1.0], 1.0, id="highest alone"),
        pytest.param([4.0, 4.0, 2.0, 1.0], 1 / 2, id="shared by two"),
        pytest.param([4.0, 4.0, 4.0, 1.0], 1 / 3, id="shared by three"),
        pytest.param([4.0, 4.0, 4.0, 4.0], 1 / 4, id="all equal: chance"),
        pytest.param([3.0, 4.0, 2.0, 1.0], 0.0, id="second"),
        pytest.param([3.0, 3.0, 4.0, 1.0], 0.0, id="shares the second place"),
    ],
)
def test_a_shared_maximum_is_shared_out(rewards: list[float], value: float) -> None:
    assert share_of_maximum(scored("Math", rewards)) == pytest.approx(value)


def test_guessing_gives_a_quarter() -> None:
    places = [[float(place == guess) for place in range(4)] for guess in range(4)]

    assert mean(board([scored("Focus", rewards) for rewards in places]).overall) == 0.25


def test_the_overall_score_is_the_plain_mean_of_the_domains() -> None:
    won, lost = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]
    groups = [
        *[scored("Factuality", won)] * 3,
        scored("Factuality", lost),
        scored("Precise IF", lost),
        scored("Math", won),
        scored("Safety", [1.0, 1.0, 0.0, 0.0]),
        scored("Focus", won),
        *TABLE,
    ]

    scores = board(groups)

    assert mean(scores.overall) == pytest.approx((0.75 + 0 + 1 + 0.5 + 1 + TIES_SCORE) / 6)
    assert list(scores.sections) == list(SIZES)
    assert scores.missing == ()
    assert sum(SIZES.values()) == 1865


def test_the_ties_formula_on_a_table_by_hand() -> None:
    leaf = ties_leaf(TABLE)

    assert leaf is not None
    assert mean(leaf) == pytest.approx(TIES_SCORE)
    assert mean(leaf) == pytest.approx(0.530939, abs=1e-6)  # as the tool computes it
    assert leaf.numbers == (1, 3, 5)
    assert leaf.values == pytest.approx(
        (1 + 0.01 * math.tanh(2), 0.6 + 0.01 * math.tanh(0.5 / 3 - 1), -0.01)
    )


def test_a_perfect_model_gets_a_little_over_one() -> None:
    perfect = [form("ref:0", [9.0], [0.0]), form("tied:0", [9.0, 8.9], [0.0])]

    assert 1 < ties_score(perfect) <= 1.01


@pytest.mark.parametrize(
    ("right", "wrong", "score"),
    [
        pytest.param(9.0, 0.0, 1.01, id="right: the ratio has no top"),
        pytest.param(0.0, 9.0, -0.01, id="wrong: it has no bottom"),
        pytest.param(9.0, 9.0, 0.0, id="0 / 0 is nothing"),
    ],
)
def test_without_any_spread_the_last_term_is_at_its_end(
    right: float, wrong: float, score: float
) -> None:
    question = [form("ref:0", [right], [wrong]), form("tied:0", [right, right], [wrong])]

    assert ties_score(question) == pytest.approx(score)


def test_a_question_without_spread_weighs_as_much_as_another_in_the_last_term() -> None:
    judged = [form("ref:1", [5.0], [5.0]), form("tied:1", [5.0, 5.0], [5.0])]

    # Question 0 has everything right, question 1 nothing, and neither a last term.
    expected = (0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(2)) / 2
    assert ties_score([*TABLE[:2], *judged]) == pytest.approx(expected)


def test_a_form_without_the_other_counts_for_its_own_accuracy_only() -> None:
    lonely = [*TABLE[:2], form("ref:7", [1.0], [2.0], number=8), form("tied:8", [1.0], [0.0])]

    # tied: questions 0 and 8, both right; ref: 0 right, 7 wrong; the rest of question 0 alone.
    expected = 0.3 * 1 + 0.3 * 0.5 + 0.2 + 0.2 + 0.01 * math.tanh(2)
    assert ties_score(lonely) == pytest.approx(expected)


def test_one_right_answer_says_nothing_of_a_spread() -> None:
    single = [*TABLE[:2], form("ref:7", [1.0], [2.0]), form("tied:7", [1.0], [0.0])]

    # tied: both right; ref: one of two; the means with a spread are of question 0 alone.
    assert ties_score(single) == pytest.approx(0.3 + 0.15 + 0.4 + 0.01 * math.tanh(2))


def test_ties_is_missing_where_no_question_has_both_forms() -> None:
    groups = [scored("Math", [1.0, 0.0, 0.0, 0.0]), TABLE[0], TABLE[3]]

    scores = board(groups)

    assert mean(scores.overall) == 1
    assert scores.missing == ("Factuality", "Precise IF", "Safety", "Focus", "Ties")


def test_a_failed_group_of_ties_is_left_out() -> None:
    scores = board([*TABLE[:2], form("ref:9", [None], [0.0]), form("tied:9", [1.0, 2.0], [0.0])])

    assert mean(scores.overall) == pytest.approx(0.3 + 0.3 + 0.4 + 0.01 * math.tanh(2))
    assert size(scores.overall) == 2


@given(st.floats(0.1, 100), st.integers(-50, 50))
def test_ties_does_not_depend_on_the_scale_of_rewards(scale: float, shift: int) -> None:
    # Powers of two keep the differences of the table exact.
    factor = 2.0 ** round(math.log2(scale))
    moved = [
        scored(
            g.subset,
            [factor * ((r or 0.0) + shift) for r in g.rewards],
            ranks=g.ranks,
            name=g.id,
            number=g.number,
        )
        for g in TABLE
    ]

    assert ties_score(moved) == pytest.approx(TIES_SCORE)


@pytest.mark.parametrize("name", ["7", "tied:", "tied:a", "other:3", "tied:3:4", ""])
def test_an_id_of_ties_that_tells_no_form_is_named(name: str) -> None:
    with pytest.raises(BenchmarkError, match=f"id: '{name}' of a Ties group"):
        board([form(name, [1.0], [0.0])])


def test_a_form_that_is_there_twice_is_named() -> None:
    with pytest.raises(BenchmarkError, match="id: 'ref:0' is there twice"):
        board([TABLE[0], TABLE[1], TABLE[0]])


def test_domains_of_others_are_an_error_that_names_them() -> None:
    with pytest.raises(BenchmarkError, match="RewardBench 2 has no 'Reasoning'"):
        board([scored("Reasoning", [1.0, 0.0])])


@pytest.mark.parametrize("name", ["precise if", "Precise_IF", "Precise IF"])
def test_domains_are_known_in_any_spelling(name: str) -> None:
    assert list(board([scored(name, [1.0, 0.0, 0.0, 0.0])]).sections) == ["Precise IF"]


def test_another_worth_of_ties_does_not_apply() -> None:
    half: Ties = "half"
    with pytest.raises(BenchmarkError, match="ties: 'half' does not apply to RewardBench 2"):
        board(TABLE, ties=half)


@pytest.mark.parametrize(
    ("choice", "right", "value"),
    [(0, 0, 1.0), (2, 0, 0.0), (2, 2, 1.0), (None, 0, 0.25), (None, 3, 0.25)],
)
def test_a_judge_s_pick_is_right_or_wrong_or_unreadable(
    choice: int | None, right: int, value: float
) -> None:
    assert ranking_value(choice, right=right) == value


@pytest.mark.parametrize(
    ("ratings", "value"),
    [
        pytest.param([9, 5, 5, 1], 1.0, id="highest alone"),
        pytest.param([9, 9, 5, 1], 0.5, id="shared by two"),
        pytest.param([9, 9, 9, 9], 0.25, id="shared by all"),
        pytest.param([5, 9, 5, 1], 0.0, id="second"),
        pytest.param([None, None, None, None], 0.25, id="none could be read"),
        pytest.param([None, 5, 4, 1], 0.0, id="the right one could not be read"),
        pytest.param([5, None, 4, 1], 1.0, id="a wrong one could not be read"),
    ],
)
def test_a_judge_s_ratings_share_out_a_shared_maximum(
    ratings: list[float | None], value: float
) -> None:
    assert ratings_value(ratings) == pytest.approx(value)


def test_a_judge_that_ranks_is_scored_by_its_picks_and_rates_ties() -> None:
    groups = [
        scored("Math", [1.0, 0.0, 0.0, 0.0]),
        scored("Math", [None] * 4),
        scored("Focus", [0.0, 0.0, 1.0, 0.0], ranks=[2, 2, 1, 2]),
        *TABLE,
        form("ref:9", [None], [0.0]),
    ]

    scores = judge_board(groups, mode="ranking")

    assert mean(scores.sections["Math"]) == pytest.approx((1 + 0.25) / 2)
    assert mean(scores.sections["Focus"]) == 1
    assert mean(scores.sections["Ties"]) == pytest.approx(TIES_SCORE)


def test_a_judge_that_rates_is_scored_by_the_ratings_that_could_be_read() -> None:
    scores = judge_board(
        [
            scored("Math", [9.0, 9.0, 1.0, None]),
            scored("Math", [None] * 4),
            scored("Math", [1.0, 2.0, 8.0, 3.0], ranks=[2, 2, 1, 2]),
        ],
        mode="ratings",
    )

    leaf = scores.subsets["Math"]
    assert isinstance(leaf, Leaf)
    assert leaf.values == (0.5, 0.25, 1.0)


@pytest.mark.parametrize(
    "rewards", [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [7.0, 2.0, 5.0, 3.0]]
)
def test_a_group_without_one_pick_is_named(rewards: list[float]) -> None:
    with pytest.raises(BenchmarkError, match=r"group 'm1': rewards: \d of them are 1"):
        judge_board([scored("Math", rewards, name="m1")], mode="ranking")
