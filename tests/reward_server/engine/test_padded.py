from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.engine.padded import (
    PaddedEngine,
    backbone_forward,
    classifier_forward,
    plan_batches,
)
from reward_server.engine.readout import LastToken
from reward_server.errors import DeviceOutOfMemory
from reward_server.tokens import Labels, TokenInput
from tests.reward_server.engine.small import (
    SIZES,
    Ids,
    firsts,
    make_classifier,
    plain_rewards,
    prefix_trees,
    some_ids,
    token_inputs,
)

CPU = torch.device("cpu")
PAD = SIZES["pad_token_id"]


@cache
def model() -> Any:
    return make_classifier("llama")


def engine(*, max_batch_tokens: int = 256) -> PaddedEngine:
    readout = LastToken(model().score.weight, model().score.bias)
    forward = backbone_forward(model().base_model, readout)
    return PaddedEngine(forward, device=CPU, max_batch_tokens=max_batch_tokens)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_keep_the_budget_and_lose_nothing(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert max(lengths[i] for i in batch) * len(batch) <= budget or len(batch) == 1
    longest_first = [lengths[index] for batch in batches for index in batch]
    assert longest_first == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_a_budget_for_all_makes_one_batch(lengths: list[int]) -> None:
    assert len(plan_batches(lengths, max(lengths) * len(lengths))) == 1


@given(st.lists(st.integers(1, 50)))
def test_a_budget_of_one_token_computes_every_input_alone(lengths: list[int]) -> None:
    assert [len(batch) for batch in plan_batches(lengths, 1)] == [1] * len(lengths)


@given(st.lists(st.integers(1, 50), max_size=20))
def test_the_order_is_longest_first_at_full_cost(lengths: list[int]) -> None:
    inputs = [TokenInput((1,) * length) for length in lengths]
    order, costs = engine().order(inputs)
    assert sorted(order) == list(range(len(inputs)))
    assert costs == [lengths[index] for index in order] == sorted(lengths, reverse=True)


@settings(max_examples=25)
@given(prefix_trees(longest=30), st.sampled_from([1, 64, 300]))
def test_neighbours_in_a_batch_do_not_matter(inputs: list[Ids], budget: int) -> None:
    found = firsts(engine(max_batch_tokens=budget).forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(model(), inputs), abs=1e-5)


def test_a_pad_id_inside_or_at_the_end_of_an_input_is_read_like_any_other() -> None:
    body = some_ids(random.Random(0), 12)
    inputs = [(*body[:6], PAD, PAD, *body[6:]), (*body, PAD), body]
    found = firsts(engine().forward(token_inputs(inputs)))
    (expected,) = plain_rewards(model(), inputs[:1])
    assert found[0] == pytest.approx(expected, abs=1e-5)
    # transformers itself skips pad tokens at the end; the engine reads the last token there is.
    with torch.no_grad():
        hidden = model().base_model(input_ids=torch.tensor(inputs[1:2])).last_hidden_state[0, -1]
        expected = float(model().score(hidden)[0])
    assert found[1] == pytest.approx(expected, abs=1e-5)
    assert found[1] != pytest.approx(found[2], abs=1e-2)


def test_a_batch_of_equal_lengths_needs_no_mask() -> None:
    seen: list[Any] = []

    class Watched:
        def __call__(self, **arguments: Any) -> Any:
            seen.append(arguments["attention_mask"])
            return model().base_model(**arguments)

    forward = backbone_forward(Watched(), LastToken(model().score.weight))
    watched = PaddedEngine(forward, device=CPU, max_batch_tokens=256)
    watched.forward(token_inputs([(1, 2, 3), (4, 5, 6)]))
    watched.forward(token_inputs([(1, 2, 3), (4, 5)]))
    assert seen[0] is None
    assert seen[1].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_several_labels_come_in_the_order_of_the_head() -> None:
    encoder = make_classifier("bert")
    encoder.classifier = torch.nn.Linear(SIZES["hidden_size"], 3)
    found = PaddedEngine(classifier_forward(encoder), device=CPU, max_batch_tokens=64).forward(
        token_inputs([(1, 9, 2), (1, 9, 8, 2)])
    )
    with torch.inference_mode():
        expected = encoder(input_ids=torch.tensor([(1, 9, 8, 2)])).logits[0]
    assert found[1] == pytest.approx(tuple(expected.tolist()), abs=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), id="device"),
        pytest.param(RuntimeError("[enforce fail] can't allocate memory: you tried"), id="cpu"),
    ],
)
def test_out_of_memory_is_told_apart(error: Exception) -> None:
    def forward(*arguments: Any) -> list[Labels]:
        raise error

    with pytest.raises(DeviceOutOfMemory, match=r"^the device is out of memory: .*$"):
        PaddedEngine(forward, device=CPU, max_batch_tokens=9).forward([TokenInput((1,))])


def test_any_other_failure_stays_what_it_is() -> None:
    def forward(*arguments: Any) -> list[Labels]:
        raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side assert"):
        PaddedEngine(forward, device=CPU, max_batch_tokens=9).forward([TokenInput((1,))])
