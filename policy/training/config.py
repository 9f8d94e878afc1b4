"""Settings of the policy's training stages. Light to import: no torch, no trl."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from foundation.settings import Settings
from policy.config import HEAD_SIZES

Precision = Literal["auto", "float32", "bfloat16"]
Reference = Literal["base", "previous"]
PreferenceLoss = Literal[
    "sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "apo_down", "kto"
]


class ScratchConfig(Settings):
    """A base policy made from nothing: a byte-level BPE tokenizer and a random small Llama."""

    vocabulary_size: int = Field(default=2048, ge=300)
    """Tokens of the vocabulary at most; the bytes and the special tokens are among them."""

    hidden_size: int = Field(default=256, ge=8)
    """Width of the residual stream; over ``heads`` it gives a width that vLLM has kernels for."""

    layers: int = Field(default=4, ge=1)
    """Transformer blocks."""

    heads: int = Field(default=4, ge=1)
    """Attention heads of a block."""

    intermediate_size: int = Field(default=704, ge=8)
    """Width inside the feed-forward part of a block."""

    max_positions: int = Field(default=512, ge=16)
    """Longest conversation with its response, in tokens."""

    @model_validator(mode="after")
    def _has_kernels(self) -> ScratchConfig:
        # vLLM starts with any other width, and dies at the first request.
        if self.hidden_size not in [self.heads * size for size in HEAD_SIZES]:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.heads} heads is "
                f"{self.hidden_size / self.heads:g} a head; "
                f"make it one of {', '.join(map(str, HEAD_SIZES))}"
            )
        return self


class LoraSettings(Settings):
    """Low-rank adapters on every linear layer except the output layer."""

    rank: int = Field(default=16, ge=1)
    """Rank of each update; the policy server's ``max_lora_rank`` must reach it."""

    alpha: int = Field(default=32, ge=1)
    """Updates are scaled by ``alpha / rank``."""


class OptimizationConfig(Settings):
    """What every stage of training has."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of the cosine schedule."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data; may be a fraction."""

    batch_size: int = Field(default=8, ge=1)
    """Examples of one forward pass; a preference pair is one example."""

    accumulation_steps: int = Field(default=1, ge=1)
    """Forward passes of one optimizer step."""

    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Part of the steps during which the learning rate rises from zero."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decay; not applied to biases and norms."""

    max_length_tokens: int = Field(default=512, ge=16)
    """Longer examples are cut at the end; prompts that fill the limit are left out."""

    precision: Precision = "auto"
    """Arithmetic of the forward pass. ``auto``: bfloat16 where the hardware has it."""

    gradient_checkpointing: bool = False
    """Trades time for memory: activations are computed twice instead of kept."""


class SftConfig(OptimizationConfig):
    """Supervised fine-tuning on demonstrations."""

    learning_rate: float = Field(default=1.5e-3, gt=0)
    """Peak of the cosine schedule. The default suits a small policy made from scratch."""

    epochs: float = Field(default=3.5, gt=0)
    """Passes over the demonstrations."""

    batch_size: int = Field(default=16, ge=1)
    """Demonstrations of one forward pass; they are of similar length."""

    loss_on: Literal["response", "everything"] = "response"
    """Which tokens are learned: those of the response, or those of the conversation too."""

    lora: LoraSettings | None = None
    """Train adapters and merge them into the saved model; by default all weights are trained."""


class PreferenceConfig(OptimizationConfig):
    """Preference training of a LoRA adapter."""

    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak of the cosine schedule."""

    loss: PreferenceLoss = "sigmoid"
    """A loss of TRL's DPO trainer, or ``kto``. ``sigmoid`` is DPO as published."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Part of the pairs assumed to be the wrong way round; ``sigmoid`` and ``robust`` use it."""

    imitation_weight: float = Field(default=0.0, ge=0)
    """Weight of the chosen response's own log likelihood beside the loss; not with ``kto``."""

    reference: Reference = "base"
    """What the policy is held to: the base model, or the adapter that training continues from."""

    lora: LoraSettings = LoraSettings()
    """The adapter that is trained."""

    canaries: int = Field(default=8, ge=1)
    """Responses whose logprobs are recorded, so that a deployment can prove itself."""

    @model_validator(mode="after")
    def _kto_stands_alone(self) -> PreferenceConfig:
        if self.loss == "kto" and self.imitation_weight:
            raise ValueError(
                f"imitation_weight {self.imitation_weight} does not go with loss 'kto'; set it to 0"
            )
        return self
