from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from reward_server.engine.choice import choose_engine
from reward_server.engine.readout import LastHidden, LastToken, LogProbability, Rows, capped
from reward_server.specs import EngineChoice
from reward_server.tokens import TokenInput
from tests.reward_server.engine.small import SIZES, Ids, firsts, prefix_trees

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "phi": {},  # its output embeddings have a bias
    "gemma2": {
        "head_dim": 16,
        "sliding_window": 9,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0,
        "query_pre_attn_scalar": 16,
    },
}


@cache
def causal(model_type: str) -> Any:
    config = AutoConfig.for_model(model_type, **{**SIZES, **FAMILIES[model_type]})
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").eval().float()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


@torch.inference_mode()
def log_probability(model: Any, item: TokenInput) -> float:
    """As it is defined: over the whole vocabulary, at every place, from the whole model."""
    logits_LV = model(input_ids=torch.tensor([item.ids])).logits[0].double()
    chosen = logits_LV.log_softmax(-1)
    places = range(max(item.start, 1), len(item.ids))
    return float(sum(chosen[place - 1, item.ids[place]] for place in places))


def readout(model: Any, **settings: Any) -> LogProbability:
    head = model.get_output_embeddings()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return LogProbability(head.weight, head.bias, softcap=cap, **settings)


def with_starts(drawn: tuple[list[Ids], list[float]]) -> list[TokenInput]:
    inputs, shares = drawn
    return [
        TokenInput(ids, round(share * len(ids))) for ids, share in zip(inputs, shares, strict=False)
    ]


INPUTS = st.tuples(
    prefix_trees(longest=30, most=6), st.lists(st.floats(0, 1), min_size=6, max_size=6)
).map(with_starts)


@pytest.mark.parametrize("choice", ["packed", "padded"])
@pytest.mark.parametrize("model_type", FAMILIES)
@settings(max_examples=8)
@given(inputs=INPUTS)
def test_a_log_probability_is_that_of_the_whole_model(
    model_type: str, choice: EngineChoice, inputs: list[TokenInput]
) -> None:
    model = causal(model_type)
    expected = [log_probability(model, item) for item in inputs]
    chosen = choose_engine(
        model.base_model, readout(model), choice, max_length=128, batch_tokens=512
    )
    assert chosen.engine.name == choice
    found = firsts(chosen.engine.forward(inputs))
    model.base_model.set_attn_implementation("eager")
    assert found == pytest.approx(expected, abs=1e-3, rel=1e-5)


def rows_of(hidden_LD: torch.Tensor) -> Rows:
    count = hidden_LD.shape[0]
    return Rows(hidden_LD, last=[count - 1], places=lambda index: range(count))


@pytest.mark.parametrize("rows_at_once", [1, 2, 7, 100])
def test_the_size_of_a_chunk_changes_nothing(rows_at_once: int) -> None:
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    hidden = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    item = TokenInput(tuple(range(20)), 5)
    whole = LogProbability(weight)(rows_of(hidden), [item])
    chunked = LogProbability(weight, rows_at_once=rows_at_once)(rows_of(hidden), [item])
    assert chunked[0] == pytest.approx(whole[0], rel=1e-6)


def test_an_empty_candidate_has_probability_one() -> None:
    hidden = torch.ones(4, 8)
    assert LogProbability(torch.ones(9, 8))(rows_of(hidden), [TokenInput((1, 2, 3, 4), 4)]) == [
        (0.0,)
    ]


def test_a_head_computes_in_float32_so_that_near_rewards_do_not_tie() -> None:
    hidden = torch.tensor([[8.0, 0.03125]], dtype=torch.bfloat16)
    weight = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    assert LastToken(weight)(rows_of(hidden), [TokenInput((1,))]) == [(8.03125,)]


def test_a_head_may_have_a_bias_and_a_cap() -> None:
    hidden, weight = torch.ones(1, 4), torch.ones(2, 4)
    (labels,) = LastToken(weight, torch.tensor([0.0, 1.0]), softcap=2.0)(
        rows_of(hidden), [TokenInput((1,))]
    )
    assert labels == pytest.approx((2 * torch.tanh(torch.tensor([4.0, 5.0]) / 2)).tolist())


def test_the_last_hidden_state_is_given_as_it_is() -> None:
    hidden = torch.arange(6.0).view(3, 2)
    assert LastHidden()(rows_of(hidden), [TokenInput((1, 2, 3))]) == [(4.0, 5.0)]


def test_without_a_cap_logits_stay_what_they_are() -> None:
    logits = torch.tensor([1e6, -1e6])
    assert capped(logits, None) is logits
    assert capped(logits, 30.0).tolist() == [30.0, -30.0]
