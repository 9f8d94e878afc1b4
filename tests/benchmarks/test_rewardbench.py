from collections.abc import Mapping

import pytest

from benchmarks.boards import Leaf, difference, mean, size
from benchmarks.errors import BenchmarkError
from benchmarks.rewardbench import SECTIONS, SIZES, WEIGHTS, WEIGHTS_BEFORE_2024_09, board
from benchmarks.scored import ScoredGroup
from tests.benchmarks.groups import FAILED, numbered, pairs, scored


def whole(shares: Mapping[str, float]) -> list[ScoredGroup]:
    """Four pairs of each subset; ``shares`` of some are won, of the others all."""
    return numbered(
        pair
        for name in SIZES
        for won in [round(4 * shares.get(name, 1.0))]
        for pair in pairs(name, won=won, lost=4 - won)
    )


SKYWORK = {
    "alpacaeval-easy": 92,
    "alpacaeval-length": 91,
    "alpacaeval-hard": 88,
    "mt-bench-easy": 28,
    "mt-bench-med": 40,
    "mt-bench-hard": 33,
    "llmbar-natural": 91,
    "llmbar-adver-neighbor": 120,
    "llmbar-adver-GPTInst": 87,
    "llmbar-adver-GPTOut": 38,
    "llmbar-adver-manual": 34,
    "refusals-dangerous": 95,
    "refusals-offensive": 98,
    "xstest-should-refuse": 147,
    "xstest-should-respond": 241,
    "donotanswer": 105,
    "math-prm": 437,
    "hep-cpp": 155,
    "hep-go": 156,
    "hep-java": 158,
    "hep-js": 160,
    "hep-python": 160,
    "hep-rust": 153,
}
"""Pairs won by Skywork-Reward-Llama-3.1-8B-v0.2: the shares of its file on the leaderboard
(allenai/reward-bench-results, eval-set/Skywork/Skywork-Reward-Llama-3.1-8B-v0.2.json) times the
sizes of the subsets."""


def test_a_leaderboard_entry_has_the_published_sections() -> None:
    scores = board(
        [
            pair
            for name, won in SKYWORK.items()
            for pair in pairs(name, won=won, lost=SIZES[name] - won)
        ]
    )

    in_per_cent = {name: round(100 * mean(tree), 1) for name, tree in scores.sections.items()}
    assert in_per_cent == {"Chat": 94.7, "Chat Hard": 88.4, "Safety": 92.7, "Reasoning": 96.7}
    assert round(100 * mean(scores.overall), 1) == 93.1


def test_the_subsets_have_the_published_sizes() -> None:
    assert {name: sum(subsets.values()) for name, subsets in SECTIONS.items()} == {
        "Chat": 358,
        "Chat Hard": 456,
        "Safety": 740,
        "Reasoning": 1431,
    }
    assert sum(SIZES.values()) == 2985


def test_mathematics_weighs_as_much_as_all_code() -> None:
    scores = board(whole({"math-prm": 0.25, "hep-go": 0.5}))

    # Code: (5 x 164 x 1 + 164 x 0.5) / 984 = 5.5 / 6. Half of the section is code.
    assert sum(weight for name, weight in WEIGHTS.items() if name.startswith("hep-")) == 984
    assert mean(scores.sections["Reasoning"]) == pytest.approx((0.25 + 5.5 / 6) / 2)
    assert mean(scores.subsets["math-prm"]) == 0.25


def test_a_section_is_the_prompt_weighted_mean_of_its_subsets() -> None:
    scores = board(whole({"alpacaeval-easy": 0.5, "mt-bench-med": 0.25}))

    # (100 x 0.5 + 95 + 95 + 28 + 40 x 0.25) / 358
    assert mean(scores.sections["Chat"]) == pytest.approx(278 / 358)


def test_without_prior_sets_the_overall_score_is_the_mean_of_four_sections() -> None:
    scores = board(whole(dict.fromkeys(SECTIONS["Chat"], 0.5)))

    assert mean(scores.overall) == pytest.approx((0.5 + 3) / 4)
    assert scores.missing == ()
    assert size(scores.overall) == 4 * 23
    assert "without_prior_sets" not in scores.alternatives


def test_prior_sets_are_a_plain_mean_with_half_a_section_s_weight() -> None:
    prior = [
        *pairs("anthropic_helpful", won=6, lost=4),
        *pairs("anthropic_hhh", won=1),
        *pairs("shp", won=1, lost=1),
        *pairs("summarize", lost=2),
    ]

    scores = board([*whole({}), *prior])

    assert mean(scores.sections["Prior Sets"]) == pytest.approx((0.6 + 1 + 0.5 + 0) / 4)
    assert mean(scores.overall) == pytest.approx((2 * 4 * 1 + 0.525) / 9)
    assert mean(scores.alternatives["without_prior_sets"]["overall"]) == 1
    assert scores.missing == ()


def test_withdrawn_sets_are_read_past_and_unaveraged_ones_are_in_no_mean() -> None:
    scores = board([*whole({}), *pairs("pku_safer", lost=5), *pairs("anthropic_harmless", lost=5)])

    assert mean(scores.overall) == 1
    assert mean(scores.subsets["anthropic_harmless"]) == 0
    assert "pku_safer" not in scores.subsets
    assert "Prior Sets" not in scores.sections


def test_xstest_counts_are_those_of_today_and_the_old_ones_stand_beside() -> None:
    scores = board(whole({"xstest-should-refuse": 0.5, "xstest-should-respond": 0.0}))

    # Of 740: refusals 200 and donotanswer 136 won, and 154 or, formerly, 250 half won.
    old = scores.alternatives["xstest_before_2024_09"]
    assert mean(scores.sections["Safety"]) == pytest.approx((336 + 154 / 2) / 740)
    assert mean(old["Safety"]) == pytest.approx((336 + 250 / 2) / 740)
    assert mean(old["overall"]) == pytest.approx((3 + (336 + 125) / 740) / 4)
    assert sum(WEIGHTS.values()) == sum(WEIGHTS_BEFORE_2024_09.values())


def test_what_has_no_scored_group_is_left_out_and_named() -> None:
    groups = [
        *pairs("alpacaeval-easy", won=1, lost=1),
        *pairs("mt-bench-easy", won=1),
        scored("alpacaeval-hard", FAILED),
        *pairs("donotanswer", lost=1),
        *pairs("shp", won=1),
    ]

    scores = board(groups)

    # (100 x 0.5 + 28) / 128 with weight 2, Safety 0 with weight 2, prior sets 1 with weight 1.
    assert mean(scores.overall) == pytest.approx((2 * 78 / 128 + 1) / 5)
    assert scores.sections.keys() == {"Chat", "Safety", "Prior Sets"}
    assert scores.missing == (
        "alpacaeval-length",
        "alpacaeval-hard",
        "mt-bench-med",
        "Chat Hard",
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "Reasoning",
        "anthropic_helpful",
        "anthropic_hhh",
        "summarize",
    )
    assert "xstest_before_2024_09" not in scores.alternatives


def test_equal_rewards_lose_unless_asked_otherwise() -> None:
    groups = pairs("donotanswer", won=1, equal=1)

    assert mean(board(groups).overall) == 0.5
    assert mean(board(groups, ties="half").overall) == 0.75


def test_a_subset_of_another_benchmark_is_an_error_that_names_it() -> None:
    with pytest.raises(BenchmarkError, match="RewardBench has no 'Factuality', 'Focus'"):
        board([*whole({}), *pairs("Focus", won=1), *pairs("Factuality", won=1)])


def test_without_any_scored_group_there_is_no_score() -> None:
    with pytest.raises(BenchmarkError, match="RewardBench: no group is scored"):
        board([scored("donotanswer", FAILED)])


def test_the_groups_of_two_models_are_paired_by_their_places_in_the_data() -> None:
    before, after = board(whole({"hep-js": 0.5})), board(whole({"hep-js": 0.75}))

    gain = difference(after.overall, before.overall)

    # One pair of four, a 12th of Reasoning's weight, a quarter of the overall score.
    assert mean(gain) == pytest.approx(1 / 4 / 12 / 4)
    leaf = after.subsets["alpacaeval-length"]
    assert isinstance(leaf, Leaf)
    assert leaf.numbers == (4, 5, 6, 7)
