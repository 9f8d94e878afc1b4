"""Settings of the policy server. Light to import: no torch, no vllm.

There is no ``host``: the server always binds loopback. vLLM's key covers only part of its routes,
and the ones that load adapters, pause or reload weights are not among them, so whoever reaches the
port owns the server. Where a driver lives on another machine, tunnel to it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from foundation.settings import Settings

HOST = "127.0.0.1"
"""The only interface that the policy server listens on."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""``organisation/name`` on the model hub."""

ATTENTION_AND_FEED_FORWARD = (
    *("q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)
"""Names that Llama, Mistral, Qwen and Gemma share for all linear layers of a block."""

Dtype = Literal["auto", "float32", "bfloat16"]
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has kernels for."""

HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""The widths of an attention head that vLLM has kernels for on a CPU."""


class PolicyEngineConfig(Settings):
    """How vLLM runs a base model and its adapters, wherever it listens."""

    dtype: Dtype = "auto"
    """Number format of weights and activations; ``auto`` takes the model's own."""

    chat_template: Path | None = None
    """A Jinja file, for models whose tokenizer has no chat template."""

    max_model_len: int | None = Field(default=None, ge=16)
    """Longest conversation with its response, in tokens; the model's own limit if not given."""

    max_num_seqs: int = Field(default=256, ge=1)
    """Responses that are generated at the same time."""

    max_loras: int = Field(default=4, ge=1)
    """Adapters that can answer in the same batch."""

    max_lora_rank: int = 16
    """The highest rank that an adapter may have: 1, 8, 16, 32, 64, 128, 256, 320 or 512."""

    lora_target_modules: tuple[str, ...] = Field(default=ATTENTION_AND_FEED_FORWARD, min_length=1)
    """Layers that adapters may change, by the last part of their names, with commas between them
    on the command line; the output head never."""

    kv_cache_gib: int = Field(default=1, ge=1)
    """Memory for keys and values; on a CPU only."""

    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory for weights, keys and values; on a GPU only."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that one model is spread over."""

    eager: bool | None = None
    """No compilation: ready sooner, slower per token. Left out, it is eager on a CPU."""

    ready_timeout_seconds: float = Field(default=600, gt=0)
    """Longest time from start to the first answer."""

    drain_seconds: int = Field(default=30, ge=1)
    """What running requests get to finish when the server is stopped."""

    max_restarts: int = Field(default=3, ge=0)
    """Crashes that are answered with a restart."""

    @field_validator("max_lora_rank")
    @classmethod
    def _has_kernels(cls, rank: int) -> int:
        if rank not in LORA_RANKS:
            raise ValueError(f"give one of {', '.join(map(str, LORA_RANKS))}")
        return rank

    @field_validator("lora_target_modules", mode="before")
    @classmethod
    def _split_at_commas(cls, modules: object) -> object:
        return tuple(modules.split(",")) if isinstance(modules, str) else modules


class PolicyServerConfig(PolicyEngineConfig):
    """A vLLM server of one base model: how it is started and watched."""

    model: str = Field(min_length=1)
    """A model folder, or the id of a model on the hub."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port on the loopback interface."""

    log_file: Path = Path("policy-server.log")
    """Where the server's output is appended."""
