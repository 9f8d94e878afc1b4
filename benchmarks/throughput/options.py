"""What ``medpref bench throughput`` may be asked for. Light to import: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from foundation.settings import Settings

MethodName = Literal[
    "engine",
    "engine_plain",
    "engine_deterministic",
    "http",
    "vllm_pooling_cold",
    "vllm_pooling_warm",
    "transformers_single",
    "transformers_sorted",
]
WorkloadName = Literal["best_of_4", "best_of_8", "best_of_16", "single"]
ShapeName = Literal["llama-28m", "llama-8b", "tiny"]
DType = Literal["float32", "bfloat16"]

EVERY_METHOD: tuple[MethodName, ...] = get_args(MethodName)
METHODS: tuple[MethodName, ...] = tuple(
    name for name in EVERY_METHOD if name not in ("engine_plain", "engine_deterministic")
)
"""What is compared unless told otherwise."""

WORKLOADS: tuple[WorkloadName, ...] = get_args(WorkloadName)
SERVED: frozenset[MethodName] = frozenset({"http", "vllm_pooling_cold", "vllm_pooling_warm"})
"""Methods that need the model in a folder, since another process reads it."""


class ThroughputConfig(Settings):
    """One comparison: which model, which methods, on which conversations."""

    model: Path | None = None
    """Folder of a reward model in the Hugging Face layout; left out, one with random weights is
    made in the form of --shape."""

    shape: ShapeName = "llama-28m"
    """Form of the model that is made: llama-28m suits two CPU cores, llama-8b one GPU, tiny
    nothing but a trial of this command."""

    methods: tuple[MethodName, ...] = METHODS
    """Ways of scoring to compare, with commas between them."""

    workloads: tuple[WorkloadName, ...] = WORKLOADS
    """Forms of the groups, with commas between them."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of every method; auto is bfloat16 where the machine multiplies it."""

    groups: int = Field(default=32, ge=1)
    """Groups of best_of_8 in one measurement; the other workloads get as many inputs."""

    repeats: int = Field(default=5, ge=1)
    """Measurements of each method and workload, each of text that no method has seen."""

    seed: int = 0
    """Of weights, lengths, text and arrival times."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of every method; left out, one a core."""

    conversation_tokens: int | None = Field(default=None, ge=1)
    """Length of a conversation; left out, 200, and 500 for llama-8b."""

    candidate_tokens_min: int | None = Field(default=None, ge=1)
    """Length of the shortest candidate; left out, 60, and 300 for llama-8b."""

    candidate_tokens_max: int | None = Field(default=None, ge=1)
    """Length of the longest candidate; left out, 190, and 300 for llama-8b."""

    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass of this server; left out, its own choice for the device."""

    vllm_warm: Literal["conversations", "inputs"] = "conversations"
    """What vllm_pooling_warm finds in its cache: the conversations, as where a policy is sampled
    again and again; or the very inputs, as where the same candidates come twice."""

    vllm_gpu_memory: float = Field(default=0.45, gt=0, le=1)
    """Share of the GPU's memory that vLLM gets; on a GPU only."""

    latency_requests: int = Field(default=150, ge=0)
    """Requests behind each latency figure; 0 leaves latency out."""

    output: Path | None = None
    """File for the JSON document, besides standard output."""

    work_dir: Path | None = None
    """Folder for the model that is made and the servers' logs; left out, they go when it ends."""

    @field_validator("methods", "workloads", mode="before")
    @classmethod
    def _split_at_commas(cls, names: object) -> object:
        return tuple(names.split(",")) if isinstance(names, str) else names

    @model_validator(mode="after")
    def _lengths_are_a_range(self) -> ThroughputConfig:
        low, high = self.candidate_tokens
        if low > high:
            raise ValueError(
                f"candidate_tokens_min {low} is above candidate_tokens_max {high}; give both"
            )
        return self

    @property
    def conversation(self) -> int:
        """Tokens of a conversation."""
        return self.conversation_tokens or (500 if self._is_large else 200)

    @property
    def candidate_tokens(self) -> tuple[int, int]:
        """Tokens of the shortest and of the longest candidate."""
        low, high = (300, 300) if self._is_large else (60, 190)
        return self.candidate_tokens_min or low, self.candidate_tokens_max or high

    @property
    def needs_folder(self) -> bool:
        """Whether a process besides this one reads the model."""
        return not SERVED.isdisjoint(self.methods)

    @property
    def _is_large(self) -> bool:
        return self.model is None and self.shape == "llama-8b"
