"""Every family of models gives the rewards of its plain forward, packed where that is possible."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.engine.choice import Chosen, choose_engine, choose_padding, why_not_packed
from reward_server.engine.readout import LastToken
from reward_server.tokens import TokenInput
from tests.reward_server.engine.small import (
    SIZES,
    Ids,
    firsts,
    make_classifier,
    plain_rewards,
    prefix_trees,
    token_inputs,
)

# What importing DeBERTa warns of is not ours.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

PACKED: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama with scaled rotary": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "mistral": {"sliding_window": 12},
    "qwen2": {"use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16},
    "gemma2": {
        "head_dim": 16,
        "sliding_window": 9,
        "attn_logit_softcapping": 3.0,
        "query_pre_attn_scalar": 16,
    },
    "gemma3_text": {
        "head_dim": 16,
        "sliding_window": 9,
        "query_pre_attn_scalar": 16,
        "num_hidden_layers": 3,
        "layer_types": MIXED,
    },
    "phi": {},
    "phi3": {"sliding_window": 14},
    "phimoe": {"sliding_window": 14, "num_local_experts": 4},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 9, "num_hidden_layers": 3, "layer_types": MIXED},
    "gpt_neox": {},
    "gpt2": {},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "starcoder2": {"sliding_window": 11},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {**EXPERTS, "num_experts": 4, "head_dim": 8},
    "smollm3": {"no_rope_layers": [1, 0]},
    "exaone4": {"sliding_window": 9, "num_hidden_layers": 3, "layer_types": MIXED},
    "glm4": {"head_dim": 8},
    "persimmon": {},
}


def choose(model: Any, **settings: Any) -> Chosen:
    return choose_engine(
        model.base_model,
        LastToken(model.score.weight, model.score.bias),
        settings.get("choice", "auto"),
        max_length=SIZES["max_position_embeddings"],
        batch_tokens=settings.get("batch_tokens", 512),
    )


@cache
def plain_and_chosen(family: str) -> tuple[Any, Chosen]:
    """The model as it is, and the engine chosen for another copy of it."""
    model_type = family.split(maxsplit=1)[0]
    plain, served = (make_classifier(model_type, **PACKED[family]) for _ in range(2))
    return plain, choose(served)


@pytest.mark.parametrize("family", PACKED)
@settings(max_examples=12)
@given(inputs=prefix_trees(longest=40, most=8))
def test_packed_rewards_are_those_of_the_plain_model(family: str, inputs: list[Ids]) -> None:
    plain, chosen = plain_and_chosen(family)
    assert (chosen.engine.name, chosen.reason) == ("packed", None)
    found = firsts(chosen.engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)


@pytest.mark.parametrize("family", PACKED)
def test_rewards_differ_enough_for_the_comparison_to_tell(family: str) -> None:
    plain, _ = plain_and_chosen(family)
    rewards = plain_rewards(plain, [tuple(range(at, at + 30)) for at in range(1, 200, 40)])
    assert max(rewards) - min(rewards) > 0.1


@settings(max_examples=15)
@given(inputs=prefix_trees(longest=40, most=8), data=st.data())
def test_neither_grouping_nor_order_matters(inputs: list[Ids], data: st.DataObject) -> None:
    _, chosen = plain_and_chosen("gemma2")
    together = firsts(chosen.engine.forward(token_inputs(inputs)))
    order = data.draw(st.permutations(range(len(inputs))))
    cut = data.draw(st.integers(0, len(inputs)))
    apart = [
        reward
        for part in (order[:cut], order[cut:])
        if part
        for reward in firsts(chosen.engine.forward(token_inputs([inputs[i] for i in part])))
    ]
    assert apart == pytest.approx([together[index] for index in order], abs=1e-4)


def test_a_window_that_is_told_by_the_mask_alone_is_kept() -> None:
    # Longer than the inputs of the self-check, which cannot notice it.
    settings = {"sliding_window": 80, "num_local_experts": 4, "max_position_embeddings": 256}
    plain, served = (make_classifier("phimoe", **settings) for _ in range(2))
    chosen = choose(served)
    inputs = [tuple(range(1, 120)), tuple(range(120, 240))]
    assert chosen.engine.name == "packed"
    found = firsts(chosen.engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)


PADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "jamba": (
        "state",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "num_experts": 2,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "qwen3_next": (
        "state",
        {
            **EXPERTS,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "head_dim": 8,
        },
    ),
    "gpt_oss": ("sinks", {"head_dim": 8, "num_local_experts": 4, "sliding_window": 16}),
    "bloom": ("cannot be replaced", {}),
    "falcon": ("cannot be replaced", {}),
    "nemotron": ("passes no layout on", {}),
    "llama": (
        "longrope",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "factor": 4.0,
                "long_factor": [9.0] * 4,
                "short_factor": [1.0] * 4,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "mistral": (
        "dynamic",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}},
    ),
}


@cache
def plain_and_padded(model_type: str) -> tuple[Any, Chosen]:
    plain, served = (make_classifier(model_type, **PADDED[model_type][1]) for _ in range(2))
    return plain, choose(served)


@pytest.mark.parametrize("model_type", PADDED)
@settings(max_examples=4)
@given(inputs=prefix_trees(longest=40, most=6))
def test_what_cannot_be_packed_is_padded_and_says_why(model_type: str, inputs: list[Ids]) -> None:
    plain, chosen = plain_and_padded(model_type)
    assert chosen.engine.name == "padded"
    assert chosen.reason is not None
    assert PADDED[model_type][0] in chosen.reason
    found = firsts(chosen.engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)


def test_a_rotary_embedding_that_looks_at_the_longest_input_is_computed_alone() -> None:
    plain, chosen = plain_and_padded("llama")
    short, long = tuple(range(1, 20)), tuple(range(1, 100))
    batch = torch.tensor([[*short, *[0] * (len(long) - len(short))], long])
    with torch.inference_mode():
        together = plain(batch, attention_mask=(batch > 0).long()).logits[0].item()
    (alone,) = plain_rewards(plain, [short])
    assert together != pytest.approx(alone, abs=1e-2)  # or there would be nothing to see
    assert firsts(chosen.engine.forward(token_inputs([short, long])))[0] == pytest.approx(alone)


@pytest.mark.parametrize("change", ["is_causal", "use_bidirectional_attention"])
def test_a_decoder_made_to_see_later_tokens_is_not_packed(change: str) -> None:
    backbone = make_classifier("llama").base_model
    setattr(backbone.config, change, change == "use_bidirectional_attention")
    assert why_not_packed(backbone) == "its tokens see later tokens"


def test_layers_of_an_unknown_kind_are_not_packed() -> None:
    backbone = make_classifier("llama").base_model
    backbone.config.layer_types = ["full_attention", "chunked_attention"]
    assert why_not_packed(backbone) == "it has layers of other kinds (chunked_attention)"


ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "bos_token_id": 0},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "pooler_hidden_size": 32,
    },
    "modernbert": {"local_attention": 16, "cls_token_id": 1, "sep_token_id": 2},
    "t5": {"d_model": 32, "d_ff": 48, "num_layers": 1, "d_kv": 8, "decoder_start_token_id": 0},
}
ALONE: dict[str, dict[str, Any]] = {
    # Decoders that look for the last token which is not the pad token, whatever the mask says.
    "modernbert-decoder": {"pad_token_id": 3, "cls_token_id": 1, "sep_token_id": 2},
    "ctrl": {
        "pad_token_id": 3,
        "n_embd": 32,
        "dff": 48,
        "n_layer": 1,
        "n_head": 4,
        "n_positions": 128,
    },
    # It mixes tokens without any mask.
    "fnet": {},
}


@cache
def plain_and_whole(model_type: str) -> tuple[Any, Chosen]:
    settings = {**ENCODERS, **ALONE}[model_type]
    plain, served = (make_classifier(model_type, **settings) for _ in range(2))
    samples = token_inputs([(1, 7, 2), (1, *range(20, 32), 2), (1, *range(30, 60), 2)])
    return plain, choose_padding(served, samples, batch_tokens=512)


def enclosed(inputs: list[Ids]) -> list[Ids]:
    """Inputs between the marks that encoders want."""
    return [(1, *(max(token, 4) for token in ids), 2) for ids in inputs]


@pytest.mark.parametrize("model_type", [*ENCODERS, *ALONE])
@settings(max_examples=5)
@given(inputs=prefix_trees(longest=40, most=6).map(enclosed))
def test_a_model_with_a_head_of_its_own_gives_its_own_logits(
    model_type: str, inputs: list[Ids]
) -> None:
    plain, chosen = plain_and_whole(model_type)
    assert chosen.engine.name == "padded"
    found = firsts(chosen.engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)


@pytest.mark.parametrize("model_type", [*ENCODERS, *ALONE])
def test_a_model_that_reads_padding_computes_its_inputs_alone(model_type: str) -> None:
    _, chosen = plain_and_whole(model_type)
    is_alone = "padding changes its logits" in (chosen.reason or "")
    assert is_alone == (model_type in ALONE)


def test_bert_is_told_which_text_a_token_belongs_to() -> None:
    plain, chosen = plain_and_whole("bert")
    ids = (1, *range(10, 20), 2, *range(30, 40), 2)
    types = torch.tensor([[0] * 12 + [1] * 11])
    (expected,) = plain_rewards(plain, [ids], token_type_ids=types)
    padding = TokenInput((1, *range(10, 60), 2), 30)
    found = firsts(chosen.engine.forward([TokenInput(ids, 12), padding]))
    assert found[0] == pytest.approx(expected, abs=1e-5)
    assert found[0] != pytest.approx(plain_rewards(plain, [ids])[0], abs=1e-3)
