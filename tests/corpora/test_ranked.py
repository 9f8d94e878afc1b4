"""Ranked groups: what they refuse, and what they are known by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.ranked import RankedGroup

ASKED = Conversation.ask("What helps a stuffy nose?")
GROUP = RankedGroup("q1", ASKED, ("Saline.", "A walk.", "Antibiotics."), (1, 2, 2), "nose")


def test_a_pair_puts_the_chosen_candidate_first() -> None:
    pair = RankedGroup.pair("q1", ASKED, "Saline.", "Antibiotics.", subset="nose")
    assert pair == RankedGroup("q1", ASKED, ("Saline.", "Antibiotics."), (1, 2), "nose", {})
    assert RankedGroup.pair("q1", ASKED, "a", "b", details={"by": "me"}).details == {"by": "me"}


@pytest.mark.parametrize(
    ("candidates", "ranks", "message"),
    [
        pytest.param(("a", "b"), (1,), "ranks: 1 for 2 candidates; give one for each", id="few"),
        pytest.param(("a",), (1,), "candidates: fewer than two", id="alone"),
        pytest.param((), (), "candidates: fewer than two", id="none"),
        pytest.param(("a", "b"), (0, 1), "ranks: the best is 0; count them from 1", id="from 0"),
        pytest.param(("a", "b"), (2, 3), "ranks: the best is 2; count them from 1", id="from 2"),
    ],
)
def test_ranks_that_say_nothing_are_refused(
    candidates: tuple[str, ...], ranks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        RankedGroup("q1", ASKED, candidates, ranks)


@given(st.lists(st.integers(1, 3), min_size=2, max_size=6).map(lambda ranks: [1, *ranks]))
def test_a_tie_is_a_group_without_any_difference(ranks: Sequence[int]) -> None:
    group = RankedGroup("q1", ASKED, tuple("abcdefg"[: len(ranks)]), tuple(ranks))
    assert group.is_tie == all(rank == 1 for rank in ranks)


def test_the_digest_is_of_what_is_scored_and_of_nothing_else() -> None:
    same = replace(GROUP, id="q2", ranks=(2, 1, 1), subset="", details={"by": "me"})
    assert same.digest == GROUP.digest
    assert len(GROUP.digest) == 16
    others = [
        replace(GROUP, candidates=GROUP.candidates[::-1]),
        replace(GROUP, conversation=Conversation.ask("What helps a cough?")),
        replace(GROUP, conversation=Conversation.ask(ASKED.last, system="Be brief.")),
    ]
    assert len({group.digest for group in [GROUP, *others]}) == 4


def test_a_text_that_is_no_valid_unicode_has_a_digest() -> None:
    assert replace(GROUP, candidates=("\ud800", "b"), ranks=(1, 2)).digest
