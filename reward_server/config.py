"""Settings of the reward server. Light to import: no torch, no web framework."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from foundation.settings import Settings

DTypeChoice = Literal["float32", "bfloat16", "auto"]


class RewardServerConfig(Settings):
    """One reward model behind one port."""

    model: str = Field(min_length=1)
    """Folder in the Hugging Face layout with safetensors weights, or the name of one on the hub."""

    name: str = "default"
    """What requests call the model."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = Field(default=8100, ge=0, le=65535)
    """Port to listen on; 0 picks a free one, which the ``server.ready`` event names."""

    dtype: DTypeChoice = "auto"
    """Precision of the forward pass; auto is bfloat16 on a GPU and float32 on a CPU."""

    max_length: int | None = Field(default=None, ge=2)
    """Longest rendered input in tokens; left out, it is what the model was built for."""

    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass, padding included; left out, it is 16384 on a GPU and 2048 on a
    CPU, where larger batches only add padding. A single longer input runs alone."""

    max_pending_candidates: int = Field(default=8_192, ge=1)
    """Candidates admitted and not yet answered; above it requests are sent away with 429."""

    max_groups_per_request: int = Field(default=256, ge=1)
    """Groups of one request."""

    max_candidates_per_group: int = Field(default=256, ge=1)
    """Candidates of one group."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one request body."""

    drain_seconds: int = Field(default=60, ge=1)
    """How long a server that was asked to stop goes on answering admitted requests."""
