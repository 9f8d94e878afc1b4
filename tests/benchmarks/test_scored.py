import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import ScoresError
from benchmarks.scored import ScoredGroup, win
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from tests.benchmarks.groups import EQUAL, FAILED, LOST, WON, scored

LINE: dict[str, Any] = {
    "number": 7,
    "id": "q7",
    "subset": "Hard",
    "digest": "0123456789abcdef",
    "ranks": [1, 2],
    "rewards": [1.5, -0.25],
    "errors": [None, None],
    "characters": [12, 8],
    "details": {"chosen_model": "gpt-4"},
}


def read(**changes: object) -> ScoredGroup:
    return ScoredGroup.from_fields(LINE | changes, where="scores.jsonl:8")


@st.composite
def ranked_rewards(draw: st.DrawFn) -> ScoredGroup:
    """A group with at least two ranks, rewards from few numbers so that some are equal."""
    ranks = draw(
        st.lists(st.integers(1, 4), min_size=2, max_size=6).filter(lambda r: len({*r}) > 1)
    )
    rewards = draw(st.lists(st.integers(-2, 2), min_size=len(ranks), max_size=len(ranks)))
    return scored("s", [float(reward) for reward in rewards], ranks=ranks)


def test_a_stored_group_is_read_back_as_it_was() -> None:
    group = RankedGroup.pair(
        "q7",
        Conversation.ask("Warum hustet er? 🫁"),
        "Bitte abhören.",
        "Egal.",
        subset="Hard",
        details={"chosen_model": "gpt-4"},
    )
    whole = ScoredGroup.of(7, group, [1.5, -0.25], [None, None])
    part = ScoredGroup.of(8, group, [None, 2.0], ["context_overflow: 9000 tokens", None])

    for stored in (whole, part):
        fields = json.loads(stored.to_json())
        assert ScoredGroup.from_fields(fields, where="x") == stored
    assert whole.characters == (14, 5)
    assert whole.digest == group.digest
    assert whole.is_scored
    assert not part.is_scored


def test_a_line_needs_only_ranks_and_rewards() -> None:
    group = ScoredGroup.from_fields({"ranks": [1, 2], "rewards": [3, 4]}, where="x")

    assert group.rewards == (3.0, 4.0)
    assert group.errors == (None, None)
    assert group.characters is None
    assert group.is_scored


@pytest.mark.parametrize(
    "number", [math.nan, math.inf, -math.inf, pytest.param(10**400, id="too large")]
)
def test_a_reward_that_is_not_finite_is_an_error_and_no_number(number: float) -> None:
    group = read(rewards=[number, 1.0])

    assert group.rewards == (None, 1.0)
    assert (group.errors[0] or "").startswith("non_finite_reward:")
    assert not group.is_scored


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"rewards": [1.0]}, "1 for 2 ranks", id="too few rewards"),
        pytest.param({"rewards": [1.0, 2.0, 3.0]}, "3 for 2 ranks", id="too many rewards"),
        pytest.param({"errors": [None]}, "1 errors", id="too few errors"),
        pytest.param({"errors": [None], "rewards": [None, None]}, "1 errors", id="an error short"),
        pytest.param({"rewards": [True, 1.0]}, r"rewards\[0\]", id="a verdict is no reward"),
        pytest.param({"rewards": [1.0, "2.0"]}, r"rewards\[1\]", id="text"),
        pytest.param({"rewards": 1.0}, "rewards: expected a list", id="one number"),
        pytest.param({"ranks": None}, "ranks: expected a list of int", id="no ranks"),
        pytest.param({"ranks": [1, 2.0]}, "ranks: expected a list of int", id="half ranks"),
        pytest.param({"ranks": [True, 2]}, "ranks: expected a list of int", id="bool ranks"),
        pytest.param({"ranks": [2, 3]}, "ranks: the best is 2", id="no best candidate"),
        pytest.param({"ranks": [0, 1]}, "ranks: the best is 0", id="counted from 0"),
        pytest.param(
            {"ranks": [1], "rewards": [1.0], "errors": [None]}, "ranks: 1 of them", id="one alone"
        ),
        pytest.param({"errors": "ab"}, "errors: expected a list of str", id="errors as text"),
        pytest.param({"errors": [7, None]}, "errors: expected a list of str", id="a number"),
        pytest.param({"number": "7"}, "number: expected a whole number", id="number as text"),
        pytest.param({"number": None}, "number: expected a whole number", id="no number"),
        pytest.param({"characters": 5}, "characters: expected a list of int", id="one length"),
        pytest.param(
            {"characters": ["a", 2]}, "characters: expected a list of int", id="no length"
        ),
        pytest.param({"characters": [5]}, "characters: 1 for 2 ranks", id="a length short"),
        pytest.param({"details": ["a"]}, "details: expected an object", id="details as a list"),
    ],
)
def test_a_bad_line_is_an_error_that_names_place_and_field(
    changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ScoresError, match=rf"^scores.jsonl:8: .*{problem}"):
        read(**changes)


@pytest.mark.parametrize(
    ("rewards", "loss", "half"),
    [
        pytest.param(WON, 1.0, 1.0, id="won"),
        pytest.param(LOST, 0.0, 0.0, id="lost"),
        pytest.param(EQUAL, 0.0, 0.5, id="equal"),
    ],
)
def test_a_pair_is_won_by_the_strictly_higher_reward(
    rewards: tuple[float, float], loss: float, half: float
) -> None:
    assert win(scored("s", rewards)) == loss
    assert win(scored("s", rewards), "half") == half


def test_a_ranking_is_worth_its_share_of_ordered_pairs() -> None:
    # Ranks 1, 2, 2, 3: five pairs are ordered; 4>3, 4>2.5, 4>3 and 3=3 (third against last).
    group = scored("s", [4.0, 2.5, 3.0, 3.0], ranks=[1, 2, 2, 3])

    assert win(group) == pytest.approx(3 / 5)
    assert win(group, "half") == pytest.approx(3.5 / 5)


@given(ranked_rewards())
def test_the_opposite_order_wins_what_this_one_loses(group: ScoredGroup) -> None:
    opposite = scored("s", [-(reward or 0.0) for reward in group.rewards], ranks=group.ranks)

    assert win(group, "half") + win(opposite, "half") == pytest.approx(1)
    assert win(group) <= win(group, "half")


@given(ranked_rewards(), st.randoms())
def test_the_order_of_candidates_changes_nothing(group: ScoredGroup, random: Any) -> None:
    order = list(range(len(group.ranks)))
    random.shuffle(order)
    moved = scored("s", [group.rewards[i] for i in order], ranks=[group.ranks[i] for i in order])

    assert win(moved) == pytest.approx(win(group))


def test_where_all_rank_equal_there_is_nothing_to_win() -> None:
    with pytest.raises(ValueError, match="is a tie"):
        win(scored("s", [1.0, 2.0], ranks=[1, 1]))


def test_chosen_are_the_candidates_of_rank_one_in_their_order() -> None:
    group = scored("s", [3.0, 1.0, 2.0, 5.0], ranks=[1, 2, 1, 3])

    assert group.chosen == (3.0, 2.0)
    assert group.rejected == (1.0, 5.0)
    assert not scored("s", FAILED).is_scored
