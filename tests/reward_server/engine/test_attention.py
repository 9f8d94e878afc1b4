from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.engine import attention
from reward_server.engine.attention import (
    Layout,
    UnsupportedAttention,
    Window,
    no_mask,
    packed_attention,
)
from reward_server.engine.packing import Packed, pack
from tests.reward_server.engine.small import Ids, prefix_trees

SIZE = 4

assert_close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-4)


class Layer(torch.nn.Module):
    """Stands for a model's attention layer."""

    def __init__(self, layer_idx: int = 0) -> None:
        super().__init__()
        self.layer_idx = layer_idx


@dataclass(frozen=True)
class Rules:
    """What a model may ask of attention."""

    heads: int = 2
    kv_heads: int = 2
    window: int | None = None
    softcap: float | None = None
    scaling: float | None = None


RULES = st.builds(
    Rules,
    heads=st.just(4),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 30),
    softcap=st.none() | st.floats(0.5, 5.0),
    scaling=st.none() | st.floats(0.1, 2.0),
)


@dataclass(frozen=True)
class States:
    """Queries, keys and values of a packed sequence: ``[1, H or K, T, D]``."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @classmethod
    def of(cls, packed: Packed, rules: Rules, dtype: torch.dtype = torch.float32) -> States:
        made = torch.Generator().manual_seed(len(packed.ids))

        def some(heads: int) -> torch.Tensor:
            shape = (1, heads, len(packed.ids), SIZE)
            return (2 * torch.randn(shape, generator=made)).to(dtype)

        return cls(some(rules.heads), some(rules.kv_heads), some(rules.kv_heads))


def attend(packed: Packed, states: States, rules: Rules, **others: Any) -> torch.Tensor:
    """``[T, H, D]``, as a layer that is not the last one gets it."""
    layout = others.pop("packed_layout", Layout(packed.segments, None, last_layer=0))
    mask = others.pop("attention_mask", None if rules.window is None else Window(rules.window))
    out, weights = packed_attention(
        others.pop("module", Layer()),
        states.query,
        states.key,
        states.value,
        mask,
        scaling=rules.scaling,
        softcap=rules.softcap,
        packed_layout=layout,
        **others,
    )
    assert weights is None
    return out[0]


def naive(states: States, places: list[int], rules: Rules) -> torch.Tensor:
    """Attention of one input alone, written down as it is defined: ``[L, H, D]``."""
    repeat = rules.heads // rules.kv_heads
    query = states.query[0, :, places]
    key = states.key[0, :, places].repeat_interleave(repeat, dim=0)
    value = states.value[0, :, places].repeat_interleave(repeat, dim=0)
    scores = query @ key.transpose(1, 2) * (rules.scaling or SIZE**-0.5)
    if rules.softcap is not None:
        scores = rules.softcap * torch.tanh(scores / rules.softcap)
    for row in range(len(places)):
        for column in range(len(places)):
            is_too_old = rules.window is not None and row - column >= rules.window
            if column > row or is_too_old:
                scores[:, row, column] = -torch.inf
    return (scores.softmax(-1) @ value).transpose(0, 1)


def places_of(packed: Packed, index: int) -> list[int]:
    segments = [packed.segments[number] for number in packed.paths[index]]
    return [place for s in segments for place in range(s.start, s.start + s.length)]


@settings(max_examples=60)
@given(prefix_trees(longest=30, most=6), RULES)
def test_every_input_attends_as_if_it_were_alone(inputs: list[Ids], rules: Rules) -> None:
    packed = pack(inputs)
    states = States.of(packed, rules)
    out = attend(packed, states, rules)
    for index in range(len(inputs)):
        places = places_of(packed, index)
        assert_close(out[places], naive(states, places, rules))


@pytest.mark.parametrize("block", [1, 64, 300])
@settings(max_examples=20)
@given(inputs=prefix_trees(longest=30, most=6), rules=RULES)
def test_the_size_of_a_block_changes_nothing(block: int, inputs: list[Ids], rules: Rules) -> None:
    packed = pack(inputs)
    states = States.of(packed, rules)
    whole = attend(packed, states, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_SCORES", block)
        assert_close(attend(packed, states, rules), whole)


@given(prefix_trees(longest=30, most=6), RULES)
@settings(max_examples=20)
def test_the_last_layer_computes_the_rows_that_are_read(inputs: list[Ids], rules: Rules) -> None:
    packed = pack(inputs)
    states = States.of(packed, rules)
    whole = attend(packed, states, rules)
    layout = Layout(packed.segments, packed.last, last_layer=3)
    narrowed = attend(packed, states, rules, packed_layout=layout, module=Layer(3))
    read = sorted(set(packed.last))
    assert_close(narrowed[read], whole[read])
    others = [place for place in range(len(packed.ids)) if place not in read]
    assert not narrowed[others].any()
    earlier = attend(packed, states, rules, packed_layout=layout, module=Layer(2))
    assert_close(earlier, whole)


@settings(max_examples=20)
@given(inputs=prefix_trees(longest=30, most=6), rules=RULES)
def test_the_fused_kernel_means_the_same(inputs: list[Ids], rules: Rules) -> None:
    rules = replace(rules, window=None, softcap=None)  # with them it is not used
    packed = pack(inputs)
    states = States.of(packed, rules)
    plain = attend(packed, states, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention._Step, "_block", attention._Step._fused)
        assert_close(attend(packed, states, rules), plain)


def test_a_window_may_come_as_a_number_or_in_the_place_of_the_mask() -> None:
    packed = pack([tuple(range(40))])
    rules = Rules(window=7)
    states = States.of(packed, rules)
    by_mask = attend(packed, states, rules)
    by_number = attend(packed, states, rules, attention_mask=None, sliding_window=7)
    assert_close(by_mask, by_number)
    assert not torch.allclose(by_mask, attend(packed, states, Rules()))


def test_a_model_gets_a_window_or_nothing_where_it_asks_for_a_mask() -> None:
    assert no_mask(1, 2, dtype=torch.float32) is None
    assert no_mask(1, 2, dtype=torch.float32, local_size=9) == Window(9)


def test_half_precision_stays_near() -> None:
    packed = pack([tuple(range(50)), (*range(30), 99, 98)])
    states = States.of(packed, Rules(), torch.bfloat16)
    exact = States(states.query.float(), states.key.float(), states.value.float())
    rounded = attend(packed, states, Rules())
    assert rounded.dtype == torch.bfloat16
    assert (rounded - attend(packed, exact, Rules())).abs().max() < 0.1  # values of about 2


@pytest.mark.parametrize(
    ("others", "message"),
    [
        pytest.param({"packed_layout": None}, "no layout", id="not packed"),
        pytest.param({"attention_mask": torch.zeros(1, 1, 4, 4)}, "a mask of its own", id="mask"),
        pytest.param({"s_aux": torch.zeros(2)}, "sinks", id="sinks"),
        pytest.param({"position_bias": torch.zeros(1)}, "position biases", id="biases"),
    ],
)
def test_what_cannot_be_packed_is_refused(others: dict[str, Any], message: str) -> None:
    packed = pack([(1, 2, 3, 4)])
    with pytest.raises(UnsupportedAttention, match=message):
        attend(packed, States.of(packed, Rules()), Rules(), **others)
