from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.world import Question
from loop.groups import ScoredCandidate, ScoredGroup
from loop.pairs import DropReason, PairConfig, PairRule, build_pairs

QUESTION = Question("q", Conversation.ask("What helps a cold?"))


def candidate(text: str, reward: float | None, finish: str = "stop") -> ScoredCandidate:
    error = None if reward is not None else "reward is not finite"
    return ScoredCandidate(text, 5, finish, -3.0, reward=reward, error=error)


def group(*candidates: ScoredCandidate) -> ScoredGroup:
    return ScoredGroup("q", "r1", "f00d", candidates)


rewards = st.lists(st.floats(-50, 50), min_size=1, max_size=8)
configs = st.builds(
    PairConfig,
    rule=st.sampled_from(PairRule),
    per_group=st.integers(1, 4),
    min_margin=st.floats(0, 5),
    rejected_quantile=st.floats(0, 0.9),
)


def of_rewards(numbers: list[float]) -> ScoredGroup:
    return group(*(candidate(f"answer {i}", reward) for i, reward in enumerate(numbers)))


@given(rewards, configs)
def test_every_pair_prefers_the_higher_reward_by_the_margin(
    numbers: list[float], config: PairConfig
) -> None:
    built = build_pairs([of_rewards(numbers)], {"q": QUESTION}, config, round_number=2)
    for pair in built.pairs:
        assert pair.margin is not None
        assert pair.margin > 0
        assert pair.margin >= config.min_margin
    texts = [text for pair in built.pairs for text in (pair.chosen, pair.rejected)]
    assert len(texts) == len(set(texts)) <= 2 * config.per_group


@given(rewards, configs, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    numbers: list[float], config: PairConfig, shuffler: random.Random
) -> None:
    # Distinct rewards: among equals the order of arrival decides which text is taken.
    distinct = list(dict.fromkeys(numbers))
    straight = of_rewards(distinct)
    mixed = list(straight.candidates)
    shuffler.shuffle(mixed)
    build = [
        build_pairs([g], {"q": QUESTION}, config, round_number=1)
        for g in (straight, replace(straight, candidates=tuple(mixed)))
    ]
    assert build[0] == build[1]


@given(rewards)
def test_negated_rewards_swap_chosen_and_rejected(numbers: list[float]) -> None:
    distinct = list(dict.fromkeys(numbers))
    config = PairConfig(per_group=1)
    up, down = (
        build_pairs([of_rewards(values)], {"q": QUESTION}, config, round_number=1).pairs
        for values in (distinct, [-value for value in distinct])
    )
    swapped = [pair.swap() for pair in down]
    assert [(p.chosen, p.rejected) for p in up] == [(p.chosen, p.rejected) for p in swapped]


def test_the_best_meets_the_worst_and_the_second_best_the_second_worst() -> None:
    built = build_pairs(
        [of_rewards([3.0, 1.0, 4.0, 0.0])], {"q": QUESTION}, PairConfig(per_group=2), round_number=1
    )
    assert [(p.chosen_reward, p.rejected_reward) for p in built.pairs] == [(4.0, 0.0), (3.0, 1.0)]


def test_a_quantile_spares_the_very_worst() -> None:
    config = PairConfig(rule=PairRule.BEST_QUANTILE, rejected_quantile=0.25)
    built = build_pairs([of_rewards([0, 1, 2, 3])], {"q": QUESTION}, config, round_number=1)
    assert [(p.chosen_reward, p.rejected_reward) for p in built.pairs] == [(3.0, 1.0)]


def test_lineage_says_who_sampled_who_scored_and_when() -> None:
    [pair] = build_pairs([of_rewards([0, 1])], {"q": QUESTION}, PairConfig(), round_number=3).pairs
    assert (pair.lineage.policy_version, pair.lineage.fingerprint, pair.lineage.round) == (
        "r1",
        "f00d",
        3,
    )


@pytest.mark.parametrize(
    ("candidates", "dropped"),
    [
        pytest.param([("a", 1.0), ("b", 1.0)], {DropReason.TIE: 1}, id="equal rewards"),
        pytest.param([("a", 1.0)], {DropReason.TIE: 1}, id="one candidate"),
        pytest.param(
            [("a", 1.0), (" a ", 1.0)], {DropReason.TIE: 1, DropReason.DUPLICATE: 1}, id="the same"
        ),
        pytest.param([("a", 1.0), ("b", 1.2)], {DropReason.MARGIN: 1}, id="small margin"),
        pytest.param([("a", 1.0), ("b", None)], {DropReason.ERROR: 1}, id="a failed score"),
        pytest.param(
            [("a", 1.0), ("b", 3.0), ("c", 9.0, "length")],
            {DropReason.TRUNCATED: 1},
            id="a truncated candidate",
        ),
    ],
)
def test_what_gives_no_pair_is_counted_by_its_reason(
    candidates: list[tuple[str, float]], dropped: dict[DropReason, int]
) -> None:
    built = build_pairs(
        [group(*(candidate(*c) for c in candidates))],
        {"q": QUESTION},
        PairConfig(min_margin=0.5),
        round_number=1,
    )
    assert {reason: n for reason, n in built.dropped.items() if n} == dropped
    assert set(built.dropped) == set(DropReason)
    assert len(built.pairs) == (DropReason.TRUNCATED in dropped)
    assert all(pair.chosen_reward != 9.0 for pair in built.pairs)


def test_a_group_that_could_not_be_sampled_is_an_error() -> None:
    failed = ScoredGroup("q", "r1", None, (), error="no answer")
    built = build_pairs([failed], {"q": QUESTION}, PairConfig(), round_number=1)
    assert built.dropped[DropReason.ERROR] == 1
