import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.boards import mean, size
from benchmarks.errors import BenchmarkError
from benchmarks.rm_bench import DIFFICULTIES, SIZES, board, cells, nine_cells
from benchmarks.scored import ScoredGroup, win
from tests.benchmarks.groups import FAILED, pairs, scored

few = st.lists(st.integers(-2, 2).map(float), min_size=3, max_size=3)


def styled(
    domain: str, chosen: list[float], rejected: list[float], *, number: int = 0
) -> ScoredGroup:
    """Rewards by style: concise, detailed, Markdown."""
    return scored(domain, [*chosen, *rejected], ranks=[1, 1, 1, 2, 2, 2], number=number)


# Prefers decorated candidates whatever they say: wins below the diagonal only.
DECORATED = ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
# Knows right from wrong but for one confusion: chosen concise against rejected Markdown.
ONE_WRONG = ([1.0, 3.0, 4.0], [0.0, 0.5, 2.0])


def test_the_domains_have_the_published_sizes() -> None:
    assert sum(SIZES.values()) == 1327
    assert SIZES["safety-refuse"] + SIZES["safety-response"] == 441


def test_hard_is_above_the_diagonal_and_easy_below() -> None:
    #             rejected:  concise  detailed  Markdown
    # chosen concise   1.0   >0.0     >0.5      <2.0
    # chosen detailed  3.0   >        >         >
    # chosen Markdown  4.0   >        >         >
    group = styled("chat", *ONE_WRONG)

    assert cells(group, difficulty="Hard") == pytest.approx(2 / 3)
    assert cells(group, difficulty="Normal") == 1
    assert cells(group, difficulty="Easy") == 1
    assert nine_cells(group) == pytest.approx(8 / 9)


def test_a_model_that_sees_only_decoration_is_easy_s_winner_and_hard_s_loser() -> None:
    scores = board([styled("code", *DECORATED)])

    assert {name: mean(scores.sections[name]) for name in DIFFICULTIES} == {
        "Easy": 1,
        "Normal": 0,
        "Hard": 0,
    }
    assert mean(scores.sections["code"]) == pytest.approx(1 / 3)
    assert mean(board([styled("code", *DECORATED)], ties="half").sections["Normal"]) == 0.5


@given(few, few)
def test_a_domain_s_value_is_the_share_of_all_nine_pairs(
    chosen: list[float], rejected: list[float]
) -> None:
    group = styled("math", chosen, rejected)

    assert nine_cells(group) == pytest.approx(win(group))
    assert nine_cells(group, ties="half") == pytest.approx(win(group, "half"))


def test_domains_weigh_the_same_and_the_prompts_of_safety_are_pooled() -> None:
    perfect = ([3.0] * 3, [0.0] * 3)
    wrong = ([0.0] * 3, [3.0] * 3)
    scores = board(
        [
            styled("chat", *perfect),
            styled("chat", *perfect),
            styled("code", *DECORATED),
            styled("math", *ONE_WRONG),
            styled("safety-refuse", *perfect, number=9),
            styled("safety-refuse", *perfect, number=4),
            styled("safety-refuse", *perfect, number=6),
            styled("safety-response", *wrong, number=5),
        ]
    )

    assert mean(scores.sections["safety"]) == 0.75  # not the mean of its two parts, 0.5
    assert mean(scores.subsets["safety-response"]) == 0
    assert mean(scores.overall) == pytest.approx((1 + 1 / 3 + 8 / 9 + 0.75) / 4)
    assert mean(scores.sections["Hard"]) == pytest.approx((1 + 0 + 2 / 3 + 0.75) / 4)
    assert mean(scores.overall) == pytest.approx(
        sum(mean(scores.sections[name]) for name in DIFFICULTIES) / 3
    )
    assert list(scores.sections) == ["chat", "code", "math", "safety", "Easy", "Normal", "Hard"]
    assert size(scores.sections["Hard"]) == size(scores.overall) == 8
    assert scores.missing == ()


def test_subsets_of_single_files_belong_to_their_domains() -> None:
    scores = board(
        [
            styled("alpacaeval", *ONE_WRONG),
            styled("bigcode/humanevalpack", *ONE_WRONG),
            styled("refusals-offensive", *ONE_WRONG),
        ]
    )

    assert list(scores.subsets) == ["chat", "code", "safety-refuse"]
    assert scores.missing == ("math", "safety-response")


def test_safety_is_missing_as_a_whole_where_neither_part_is_scored() -> None:
    scores = board([styled("chat", *ONE_WRONG), scored("safety-refuse", FAILED)])

    assert scores.missing == ("code", "math", "safety")


def test_a_group_that_is_not_three_against_three_is_named() -> None:
    with pytest.raises(BenchmarkError, match="group 'q5': 1 chosen and 3 rejected"):
        board([scored("chat", [1.0, 0.0, 0.0, 0.0], name="q5")])


def test_a_stranger_s_domain_is_an_error_that_names_it() -> None:
    with pytest.raises(BenchmarkError, match="RM-Bench has no 'Chat Hard'"):
        board(pairs("Chat Hard", won=1))
