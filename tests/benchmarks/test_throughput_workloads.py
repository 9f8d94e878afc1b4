from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput.options import WORKLOADS, WorkloadName
from benchmarks.throughput.workloads import (
    CANDIDATES,
    Draw,
    Lengths,
    Rendered,
    Word,
    compose,
    make_workload,
)
from reward_server.protocol import ScoreGroup

WORDS = [Word("rest", 1), Word("steam", 1), Word("fever", 1), Word("decongestant", 3)]
TOKENS = {word.text: word.tokens for word in WORDS}
LENGTHS = Lengths(conversation=20, shortest=3, longest=9)


def render(group: ScoreGroup) -> Rendered:
    """As many tokens as the words say, told apart by their text; one tag behind the question."""
    prompt = (*ids(group.messages[0].content), -1)
    return Rendered(prompt, tuple((*prompt, *ids(text), -2) for text in group.candidates))


def ids(text: str) -> tuple[int, ...]:
    return tuple(
        1 + 10 * list(TOKENS).index(word) + place
        for word in text.split()
        for place in range(TOKENS[word])
    )


def draw(name: WorkloadName, *, repetition: str = "0", seed: int = 0, groups: int = 4) -> Draw:
    workload = make_workload(name, groups=groups, lengths=LENGTHS, seed=seed)
    return workload.draw(WORDS, render, repetition=repetition)


@given(tokens=st.integers(0, 300), seed=st.integers(0, 1_000))
def test_a_text_has_exactly_the_tokens_that_were_asked_for(tokens: int, seed: int) -> None:
    text = compose(WORDS, tokens, Random(seed))
    assert sum(TOKENS[word] for word in text.split()) == tokens


@pytest.mark.parametrize("name", WORKLOADS)
@given(seed=st.integers(0, 1_000))
def test_repetitions_ask_for_the_same_work_in_new_text(name: WorkloadName, seed: int) -> None:
    first, second = (draw(name, repetition=each, seed=seed) for each in "01")
    assert list(map(len, first.inputs)) == list(map(len, second.inputs))
    assert not set(first.inputs) & set(second.inputs)
    assert first == draw(name, repetition="0", seed=seed)


@given(groups=st.integers(1, 40))
def test_every_workload_has_about_as_many_inputs(groups: int) -> None:
    for name in WORKLOADS:
        inputs = len(draw(name, groups=groups).inputs)
        assert 8 * groups <= inputs < 8 * groups + CANDIDATES[name]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_shared_prefix_is_counted_once(name: WorkloadName) -> None:
    drawn = draw(name)
    repeats = sum(
        group.prefix * (len(group.inputs) - 1) for group in drawn.rendered
    )  # what a method without sharing computes again
    assert drawn.unique_tokens == drawn.tokens - repeats
    assert (drawn.unique_tokens == drawn.tokens) == (name == "single")


def test_the_prefix_is_what_prompt_and_all_inputs_begin_with() -> None:
    rendered = Rendered(prompt=(1, 2, 3), inputs=((1, 2, 3, 4), (1, 2, 3, 5, 6), (1, 2, 9)))
    assert rendered.prefix == 2


def test_the_first_groups_keep_their_inputs() -> None:
    drawn = draw("best_of_4")
    part = drawn.first(2)
    assert part.inputs == drawn.inputs[:8]
    assert part.groups == drawn.groups[:2]
