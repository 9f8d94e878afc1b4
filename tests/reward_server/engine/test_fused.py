"""Fused kernels give what the model gives, and leave alone what they would compute otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from reward_server.engine import fused
from reward_server.engine.choice import choose_engine
from reward_server.engine.fused import Fused, fuse, load_kernels, separate
from reward_server.engine.packed import PackedEngine
from reward_server.engine.readout import LastToken
from reward_server.specs import KernelChoice
from tests.reward_server.engine.small import (
    SIZES,
    Ids,
    firsts,
    make_classifier,
    plain_rewards,
    prefix_trees,
    token_inputs,
)

needs_kernels = pytest.mark.skipif(
    load_kernels() is None, reason="vLLM's kernels are not installed, or not for this CPU"
)

WIDE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
"""Heads of 32 numbers: the kernels take no smaller ones."""

FUSED = {"llama": 7, "mistral": 7, "qwen2": 7, "qwen3": 11, "phi3": 7, "olmo2": 11, "gemma2": 2}
"""Modules that are replaced in two layers. Gemma's norms count their weights from one."""


@pytest.fixture
def no_kernels() -> Iterator[None]:
    load_kernels.cache_clear()
    yield
    load_kernels.cache_clear()


def fused_modules(backbone: Any) -> int:
    return sum(isinstance(vars(module).get("forward"), Fused) for module in backbone.modules())


def engine_of(model: Any, kernels: KernelChoice = "auto") -> PackedEngine:
    chosen = choose_engine(
        model.base_model,
        LastToken(model.score.weight, model.score.bias),
        "packed",
        max_length=SIZES["max_position_embeddings"],
        batch_tokens=512,
        kernels=kernels,
    )
    assert isinstance(chosen.engine, PackedEngine)
    return chosen.engine


@needs_kernels
@pytest.mark.parametrize("family", FUSED)
@settings(max_examples=12)
@given(inputs=prefix_trees(longest=40, most=8))
def test_rewards_by_fused_kernels_are_those_of_the_plain_model(
    family: str, inputs: list[Ids]
) -> None:
    plain, served = (make_classifier(family, **WIDE) for _ in range(2))
    engine = engine_of(served)
    assert fused_modules(served.base_model) == FUSED[family]
    found = firsts(engine.forward(token_inputs(inputs)))
    assert found == pytest.approx(plain_rewards(plain, inputs), abs=1e-4)


@needs_kernels
def test_a_rotary_embedding_of_neighbours_stays_the_models_own() -> None:
    model = make_classifier("glm", **WIDE, head_dim=32, partial_rotary_factor=1.0)
    assert fuse(model.base_model) > 0
    for layer in model.base_model.layers:
        assert "forward" in vars(layer.input_layernorm)
        assert "forward" not in vars(layer.self_attn)


@needs_kernels
def test_rows_that_the_kernels_do_not_take_stay_the_models_own() -> None:
    narrow = {"hidden_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}
    assert fuse(make_classifier("llama", **narrow).base_model) == 0


@needs_kernels
def test_gradients_are_those_of_the_plain_model() -> None:
    ids = torch.tensor([[5, 9, 3, 7]])
    plain, changed = (make_classifier("llama", **WIDE) for _ in range(2))
    assert fuse(changed.base_model) > 0
    for model in (plain, changed):
        model(input_ids=ids).logits.sum().backward()
    for ours, theirs in zip(changed.parameters(), plain.parameters(), strict=True):
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
    assert changed.base_model.layers[0].input_layernorm.weight.grad is not None


@needs_kernels
def test_weights_that_change_afterwards_are_the_ones_that_count() -> None:
    model = make_classifier("llama", **WIDE)
    fuse(model.base_model)
    norm, rows = model.base_model.norm, torch.randn(3, 64)
    with torch.inference_mode():
        before = norm(rows)
        norm.weight *= 2
        assert torch.allclose(norm(rows), 2 * before)


@needs_kernels
def test_what_is_separated_is_as_it_was() -> None:
    model = make_classifier("llama", **WIDE)
    fuse(model.base_model)
    separate(model.base_model)
    assert fused_modules(model.base_model) == 0
    assert all("forward" not in vars(module) for module in model.base_model.modules())


@needs_kernels
def test_plain_kernels_are_kept_plain() -> None:
    model = make_classifier("llama", **WIDE)
    assert engine_of(model).is_fused
    assert not engine_of(model, "plain").is_fused
    assert fused_modules(model.base_model) == 0


@needs_kernels
def test_vllm_itself_can_still_be_imported() -> None:
    code = (
        "from reward_server.engine.fused import load_kernels\n"
        "assert load_kernels() is not None\n"
        "from vllm.platforms import current_platform\n"
        "current_platform.import_kernels()\n"
        "import vllm._custom_ops\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.usefixtures("no_kernels")
def test_without_vllm_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    assert fuse(make_classifier("llama", **WIDE).base_model) == 0


@pytest.mark.usefixtures("no_kernels")
def test_a_library_that_does_not_load_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "LIBRARY", "not-there.so")
    assert fuse(make_classifier("llama", **WIDE).base_model) == 0
