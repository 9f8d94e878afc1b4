from __future__ import annotations

import random
import threading
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reward_server.engine import parts as module
from reward_server.engine.packed import PackedEngine
from reward_server.engine.parts import MAX_GROWTH, MIN_PART_TOKENS, Shares, cut, shares_of
from reward_server.engine.readout import LastToken
from tests.reward_server.engine.small import (
    firsts,
    make_classifier,
    plain_rewards,
    some_ids,
    token_inputs,
)

CPU = torch.device("cpu")


@st.composite
def costs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """What inputs in sharing order add behind the one before, and alone."""
    full = draw(st.lists(st.integers(1, 2_000), min_size=1, max_size=12))
    marginal = [draw(st.integers(0, each)) if index else each for index, each in enumerate(full)]
    return marginal, full


@given(costs(), st.integers(2, 4))
def test_a_batch_is_cut_evenly_or_not_at_all(
    drawn: tuple[list[int], list[int]], parts: int
) -> None:
    marginal, full = drawn
    runs = cut(marginal, full, parts=parts)
    assert len(runs) in (1, parts)
    assert [place for run in runs for place in run] == list(range(len(full)))
    if len(runs) == parts:
        longest = max(full[run[0]] + sum(marginal[index] for index in run[1:]) for run in runs)
        assert longest <= MAX_GROWTH * sum(marginal) / parts


def test_inputs_that_share_nothing_are_halved() -> None:
    assert cut([500] * 8, [500] * 8, parts=2) == [range(4), range(4, 8)]


def test_conversations_are_cut_between_each_other() -> None:
    marginal, full = [800, 10, 10, 10] * 2, [800] * 8
    assert cut(marginal, full, parts=2) == [range(4), range(4, 8)]


def test_one_long_conversation_is_not_computed_twice() -> None:
    marginal, full = [2_000, *[10] * 15], [2_000, *[2_010] * 15]
    assert cut(marginal, full, parts=2) == [range(16)]


def test_a_small_batch_is_not_worth_two_cores() -> None:
    half = MIN_PART_TOKENS - 1
    assert cut([half, half], [half, half], parts=2) == [range(2)]


def test_shares_split_the_cores_and_keep_the_order() -> None:
    shares = Shares(2, cores=4)
    both = threading.Barrier(2, timeout=30)

    def work(part: int) -> tuple[int, int]:
        both.wait()  # neither part waits for the other to end
        return part, torch.get_num_threads()

    assert shares.map(work, [7, 5]) == [(7, 2), (5, 2)]


def test_a_part_that_fails_is_raised_when_all_have_ended() -> None:
    ended: list[int] = []

    def work(part: int) -> None:
        ended.append(part)
        if part == 1:
            raise RuntimeError(f"part {part}")

    with pytest.raises(RuntimeError, match="part 1"):
        Shares(2, cores=2).map(work, [1, 2])
    assert sorted(ended) == [1, 2]


def test_only_a_cpu_with_several_cores_and_large_batches_is_shared() -> None:
    enough = 2 * MIN_PART_TOKENS
    assert shares_of(CPU, batch_tokens=enough) is None  # tests run on one thread
    torch.set_num_threads(2)
    shares = shares_of(CPU, batch_tokens=enough)
    assert shares is not None
    assert shares.count == 2
    assert shares_of(CPU, batch_tokens=enough - 1) is None
    assert shares_of(torch.device("cuda"), batch_tokens=enough) is None


def test_rewards_do_not_depend_on_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_PART_TOKENS", 20)
    torch.set_num_threads(2)
    model, plain = (
        make_classifier("mistral", sliding_window=12),
        make_classifier("mistral", sliding_window=12),
    )
    engine = PackedEngine(model.base_model, LastToken(model.score.weight), batch_tokens=512)
    chance = random.Random(0)
    prompts = [some_ids(chance, 30) for _ in range(4)]
    inputs = [prompt + some_ids(chance, 9) for _ in range(3) for prompt in prompts]
    order, marginal = engine.order(token_inputs(inputs))
    assert len(cut(marginal, [len(inputs[index]) for index in order], parts=2)) == 2
    assert any(left > right for left, right in pairwise(order))  # so that it must be undone
    found = firsts(engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)
