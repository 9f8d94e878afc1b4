"""What is asked about a group under each view."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from benchmarks.evaluation.views import BLOCK, NO_OTHER, SAMPLE, VIEWS, ask, view_size
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from tests.benchmarks.evaluation.fakes import pairs


def test_as_asked_is_as_the_data_has_it() -> None:
    [asked] = ask(pairs(1), "as_asked", total=1)
    assert asked.question is not None
    assert asked.question.messages[-1].content == "What about 0?"
    assert asked.question.candidates == ("y", "nnn")


def test_under_another_question_each_group_has_one_that_is_not_its_own() -> None:
    groups = pairs(BLOCK + 3)
    asked = list(ask(groups, "shuffled_question", total=len(groups)))
    questions = [one.question.messages[-1].content for one in asked if one.question]
    own = [group.conversation.last for group in groups]
    assert len(questions) == len(own)
    assert all(one != other for one, other in zip(questions, own, strict=True))
    assert sorted(questions) == sorted(own)
    assert [one.ranked for one in asked] == groups
    again = list(ask(groups, "shuffled_question", total=len(groups)))
    assert again == asked


def test_groups_that_all_ask_the_same_have_no_other_question() -> None:
    same = [RankedGroup.pair(f"{i}", Conversation.ask("Same?"), "a", "b") for i in range(3)]
    asked = list(ask(same, "shuffled_question", total=3))
    assert [one.problem for one in asked] == [NO_OTHER] * 3
    assert asked[0].failed().errors == (NO_OTHER, NO_OTHER)


def test_a_long_set_is_shuffled_a_block_at_a_time() -> None:
    read = itertools.count()

    def endless() -> Iterator[RankedGroup]:
        for group in itertools.cycle(pairs(7)):
            next(read)
            yield group

    next(ask(endless(), "shuffled_question", total=10**9))
    assert next(read) == BLOCK


def test_an_empty_question_is_an_empty_text() -> None:
    [asked] = ask(pairs(1), "empty_question", total=1)
    assert asked.question is not None
    assert [(m.role, m.content) for m in asked.question.messages] == [("user", "")]


def test_swapped_rewards_come_back_along_the_candidates() -> None:
    [asked] = ask(pairs(1), "swapped_order", total=1)
    assert asked.question is not None
    assert asked.question.candidates == ("nnn", "y")
    assert asked.scored((3.0, 1.0), (None, None)).rewards == (1.0, 3.0)


@pytest.mark.parametrize(("total", "taken"), [(10, 10), (SAMPLE, SAMPLE), (1_000, SAMPLE)])
def test_a_sample_is_spread_over_the_data(total: int, taken: int) -> None:
    numbers = [asked.number for asked in ask(pairs(total), "batch_composition", total=total)]
    assert len(numbers) == taken == view_size("batch_composition", total)
    assert numbers[0] == 0
    assert numbers[-1] >= total - 1 - total // taken


@pytest.mark.parametrize("view", VIEWS)
def test_text_that_is_no_unicode_is_an_error_of_its_group(view: str) -> None:
    bad = RankedGroup.pair("b", Conversation.ask("What?"), "\ud800", "n")
    [first, second] = ask([bad, *pairs(1)], view, total=2)  # type: ignore[arg-type]
    assert first.question is None
    assert first.problem.startswith("invalid_text: candidates")
    assert "\ud800" not in first.problem
    assert second.question is not None
