"""Which groups are shown, and what is said of their candidates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.preference import Pair
from loop.groups import ScoredCandidate, ScoredGroup
from loop.report.examples import MOST_ANSWERS, pick_examples, shorten


def group(name: str, rewards: list[float], *, finish: str = "stop") -> ScoredGroup:
    candidates = tuple(
        ScoredCandidate(f"{name} {reward}", 9, finish, -1.0, reward=reward) for reward in rewards
    )
    return ScoredGroup(name, "base", "f", candidates)


def pair_of(group: ScoredGroup) -> Pair:
    ranked = sorted(group.candidates, key=lambda c: c.reward or 0.0)
    best, worst = ranked[-1], ranked[0]
    return Pair(
        Conversation.ask(f"about {group.question_id}?"),
        best.text,
        worst.text,
        group.question_id,
        best.reward,
        worst.reward,
    )


def test_widest_and_median_margin_are_picked() -> None:
    groups = [group(name, [0.0, margin]) for name, margin in zip("abcde", range(1, 6), strict=True)]
    examples = pick_examples(groups, [pair_of(g) for g in groups])
    assert [(e.kind, e.question_id, e.margin) for e in examples] == [
        ("widest margin", "e", 5.0),
        ("median margin", "c", 3.0),
    ]


def test_one_pair_gives_one_example_and_none_gives_none() -> None:
    only = group("a", [0.0, 1.0])
    assert [e.kind for e in pick_examples([only], [pair_of(only)])] == ["widest margin"]
    assert pick_examples([only], []) == []


def test_the_order_of_groups_and_pairs_does_not_matter() -> None:
    groups = [group(name, [0.0, 1.0, 2.0]) for name in "abcd"]
    pairs = [pair_of(g) for g in groups]
    assert pick_examples(groups[::-1], pairs[::-1]) == pick_examples(groups, pairs)


def test_candidates_stand_from_the_best_to_the_worst_with_their_part() -> None:
    shown = group("a", [1.0, 3.0, 2.0])
    [example] = pick_examples([shown], [pair_of(shown)])
    assert [(a.reward, a.part) for a in example.answers] == [
        (3.0, "chosen"),
        (2.0, "not used"),
        (1.0, "rejected"),
    ]
    assert example.messages[-1].content == "about a?"


def test_the_first_of_identical_candidates_has_the_part() -> None:
    once = group("a", [3.0, 1.0])
    twice = ScoredGroup("a", "base", "f", (*once.candidates, once.candidates[0]))
    [example] = pick_examples([twice], [pair_of(once)])
    assert [answer.part for answer in example.answers] == ["chosen", "duplicate", "rejected"]


def test_a_truncated_candidate_is_never_chosen() -> None:
    whole, cut = group("a", [2.0, 1.0]), group("a", [5.0], finish="length")
    both = ScoredGroup("a", "base", "f", (*whole.candidates, *cut.candidates))
    [example] = pick_examples([both], [pair_of(whole)])
    assert [answer.part for answer in example.answers] == ["truncated", "chosen", "rejected"]


def test_a_whole_candidate_is_no_duplicate_of_a_truncated_one() -> None:
    whole, cut = group("a", [2.0, 1.0]), group("a", [2.0], finish="length")
    both = ScoredGroup("a", "base", "f", (*cut.candidates, *whole.candidates))
    [example] = pick_examples([both], [pair_of(whole)])
    assert [answer.part for answer in example.answers] == ["truncated", "chosen", "rejected"]


def test_of_a_large_group_the_pairs_are_never_left_out() -> None:
    large = group("a", [float(n) for n in range(40)])
    pairs = [pair_of(large), pair_of(group("a", [20.0, 10.0]))]
    [example] = pick_examples([large], pairs)
    assert len(example.answers) == MOST_ANSWERS
    assert example.left_out == 40 - MOST_ANSWERS
    parts = {answer.reward: answer.part for answer in example.answers}
    assert (parts[39.0], parts[20.0], parts[10.0]) == ("chosen", "chosen", "rejected")
    assert parts[0.0] == "rejected"


@given(st.text(), st.integers(1, 50))
def test_a_shortened_text_begins_as_the_text_and_says_what_is_missing(text: str, most: int) -> None:
    shown = shorten(text, most=most)
    if len(text) <= most:
        assert shown == text
    else:
        assert shown.startswith(text[:most].rstrip())
        assert f"({len(text) - most:,} more characters)" in shown
