"""Packed or padded? By what the model says of itself, then by trial.

A model that may be packed is packed only after a self-check: the same inputs, packed together and
each alone through the untouched model, must give the same last hidden states. Hidden states are
compared, not rewards, so an untrained head or one with a small scale cannot hide a difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import torch

from reward_server.engine.attention import NAME
from reward_server.engine.packed import PackedEngine, unpack
from reward_server.engine.padded import (
    Forward,
    PaddedEngine,
    backbone_forward,
    classifier_forward,
)
from reward_server.engine.readout import LastHidden, Readout
from reward_server.errors import ServerStartError
from reward_server.specs import EngineChoice, KernelChoice
from reward_server.tokens import Labels, TokenInput

TOLERANCE = 1e-4
"""Largest difference of hidden states, relative to their size, in float32."""

HALF_TOLERANCE = 0.05
"""The same in half precision, where every sum rounds."""

FIXED_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}
"""Rotary embeddings whose angles depend on the position alone."""

Engine = PackedEngine | PaddedEngine

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine, and why it is not the packed one if it is not."""

    engine: Engine
    reason: str | None


def choose_engine(
    backbone: Any,
    readout: Readout,
    choice: EngineChoice,
    *,
    max_length: int,
    batch_tokens: int,
    kernels: KernelChoice = "auto",
) -> Chosen:
    """The engine of a decoder.

    Args:
        backbone: gives hidden states; is left switched to packed attention if that is chosen.
        readout: the head.
        choice: what the settings ask for.
        max_length: longest input in tokens.
        batch_tokens: budget of a batch.
        kernels: of a packed pass on a CPU.

    Raises:
        ServerStartError: if packing is asked for and not possible.
    """
    if backbone.config._attn_implementation == NAME:  # a configuration that was packed before
        unpack(backbone, "sdpa")
    reason = "the settings ask for it" if choice == "padded" else why_not_packed(backbone)
    if reason is None:
        reason = self_check(backbone, max_length=max_length, kernels=kernels)
    if reason is None:
        engine = PackedEngine(backbone, readout, batch_tokens=batch_tokens, kernels=kernels)
        return Chosen(engine, None)
    if choice == "packed":
        raise ServerStartError(f"engine: packed is not possible: {reason}; leave it at auto")
    if choice == "auto":
        log.warning("engine.fell_back", engine="padded", reason=reason)
    # Where angles depend on the longest input of a batch, every input is computed alone.
    alone = _moving_rope(backbone.config) is not None
    padded = PaddedEngine(
        backbone_forward(backbone, readout),
        device=backbone.device,
        max_batch_tokens=1 if alone else batch_tokens,
    )
    return Chosen(padded, reason)


def why_not_packed(backbone: Any) -> str | None:
    """What in a model's own description forbids packing; ``None`` if nothing does."""
    config = backbone.config.get_text_config()
    if getattr(backbone, "_is_stateful", False):
        return "its layers carry a state from token to token"
    if not getattr(backbone, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    if not getattr(config, "is_causal", True) or getattr(
        config, "use_bidirectional_attention", False
    ):
        return "its tokens see later tokens"
    unusual = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if unusual:
        return f"it has layers of other kinds ({', '.join(sorted(unusual))})"
    rope = _moving_rope(config)
    return None if rope is None else f"its {rope} rotary embedding depends on the longest input"


def _moving_rope(config: Any) -> str | None:
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    for rope in nested or [parameters]:
        kind: str = rope.get("rope_type", "default")
        if kind not in FIXED_ROPE:
            return kind
    return None


def self_check(backbone: Any, *, max_length: int, kernels: KernelChoice = "auto") -> str | None:
    """Compares packed with plain hidden states of made-up inputs; ``None`` if they agree."""
    inputs = check_inputs(backbone.config.get_text_config().vocab_size, max_length=max_length)
    before = backbone.config._attn_implementation
    readout = LastHidden()
    alone = PaddedEngine(
        backbone_forward(backbone, readout), device=backbone.device, max_batch_tokens=1
    )
    try:
        expected = alone.forward(inputs)
    except Exception as error:  # whatever a model's code does with tokens of its own vocabulary
        raise ServerStartError(f"model: its forward pass fails: {_line(error)}") from error
    try:
        packed = PackedEngine(backbone, readout, batch_tokens=0, kernels=kernels)
        found = packed.forward(inputs)
    except Exception as error:  # whatever a model's code does with a strange attention function
        return f"its packed forward failed: {_line(error)}"
    finally:
        unpack(backbone, before)
    difference = relative_difference(expected, found)
    if difference > _tolerance(backbone):
        return f"its packed hidden states differ from plain ones by {difference:.2g} of their size"
    log.info(
        "engine.self_checked",
        engine="packed",
        fused_kernels=packed.is_fused,
        relative_difference=difference,
    )
    return None


def choose_padding(model: Any, samples: Sequence[TokenInput], *, batch_tokens: int) -> Chosen:
    """The engine of a model that is asked as a whole, with a pooling and a head of its own.

    Args:
        model: gives logits; may read padding in spite of the mask, and then computes inputs alone.
        samples: inputs of different lengths to try that on.
        batch_tokens: budget of a batch.

    Raises:
        ServerStartError: if the model cannot compute them.
    """
    forward = classifier_forward(model)
    why_alone = _padding_shows(model, forward, samples)
    if why_alone is not None:
        log.warning("engine.computes_alone", engine="padded", reason=why_alone)
    engine = PaddedEngine(
        forward, device=model.device, max_batch_tokens=1 if why_alone else batch_tokens
    )
    reason = "its pooling and head are its own"
    return Chosen(engine, reason if why_alone is None else f"{reason}, and {why_alone}")


def _padding_shows(model: Any, forward: Forward, samples: Sequence[TokenInput]) -> str | None:
    """How a model's logits depend on the padding of its batch; ``None`` if they do not."""
    rope = _moving_rope(model.config)
    if rope is not None:
        return f"its {rope} rotary embedding depends on the longest input"
    alone = PaddedEngine(forward, device=model.device, max_batch_tokens=1)
    enough = sum(len(item.ids) for item in samples) * len(samples)
    together = PaddedEngine(forward, device=model.device, max_batch_tokens=enough)
    try:
        expected = alone.forward(samples)
    except Exception as error:  # as in the self-check
        raise ServerStartError(f"model: its forward pass fails: {_line(error)}") from error
    try:
        found = together.forward(samples)
    except Exception as error:  # as in the self-check
        return f"its batched forward failed: {_line(error)}"
    # All numbers as one vector: a single one may be near zero by chance.
    difference = relative_difference([sum(expected, ())], [sum(found, ())])
    if difference > _tolerance(model):
        return f"padding changes its logits by {difference:.2g} of their size"
    return None


def _tolerance(model: Any) -> float:
    is_exact = next(model.parameters()).dtype == torch.float32
    return TOLERANCE if is_exact else HALF_TOLERANCE


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_inputs(vocabulary: int, *, max_length: int) -> list[TokenInput]:
    """Inputs with nested shared prefixes, equal inputs and lone ones, within ``max_length``."""
    draw = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    unit = max(2, min(24, max_length // 6))
    system, other = some(unit), some(unit + 3)
    question = system + some(unit)
    ids = [question + some(count) for count in (1, unit, 2 * unit)]
    ids += [system + some(unit), other, other, some(3 * unit)]
    return [TokenInput(each[:max_length]) for each in ids]


def relative_difference(expected: Sequence[Labels], found: Sequence[Labels]) -> float:
    """Largest distance of two vectors of the same input, relative to the length of the first."""
    left, right = torch.tensor(expected), torch.tensor(found)
    distance = (left - right).norm(dim=-1) / left.norm(dim=-1).clamp_min(1e-12)
    largest = float(distance.max())
    return math.inf if math.isnan(largest) else largest
