"""Settings of reward model training. Light to import: no torch, no trl."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from foundation.settings import Settings


class RewardTrainingConfig(Settings):
    """Bradley-Terry training: the reward of the chosen response rises over the rejected one's."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of the cosine schedule. The default suits a model of a few million parameters."""

    epochs: float = Field(default=2.0, gt=0)
    """Passes over the pairs; may be a fraction."""

    batch_size: int = Field(default=16, ge=1)
    """Pairs of one forward pass."""

    accumulation_steps: int = Field(default=1, ge=1)
    """Forward passes of one optimizer step."""

    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the steps during which the learning rate rises from zero."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decay; not applied to biases and norms."""

    centering: float = Field(default=0.01, ge=0)
    """Weight of the squared sum of a pair's rewards, which keeps rewards near zero on average."""

    max_length_tokens: int = Field(default=512, ge=16)
    """Pairs with a longer conversation and response are left out."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward pass. ``auto``: bfloat16 where the hardware has it."""

    gradient_checkpointing: bool = False
    """Trades time for memory: activations are computed twice instead of kept."""
