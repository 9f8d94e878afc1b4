"""What replicas may be asked for, beside the settings of the server that each of them is."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from reward_server.config import RewardServerConfig


class ScaleOutConfig(RewardServerConfig):
    """A reward server in several processes. Limits and caches are those of each process."""

    min_replicas: int = Field(default=1, ge=1, description="Replicas that are always there.")
    max_replicas: int = Field(default=1, ge=1, description="Replicas at most.")
    target_pending_tokens: int = Field(
        default=65_536,
        ge=1,
        description="Waiting tokens a replica at which the number of replicas is right: tokens a "
        "second of one, times the seconds that a request may wait.",
    )
    replica_cpus: float = Field(
        default=1.0,
        gt=0,
        description="CPUs that a replica takes of Ray's count; also the threads of its device.",
    )
    replica_gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs that a replica takes of Ray's count; 0.5 puts two on one.",
    )
    upscale_delay_seconds: float = Field(
        default=10.0, ge=0, description="How long more replicas must be wanted before they come."
    )
    downscale_delay_seconds: float = Field(
        default=300.0, ge=0, description="How long fewer must be wanted before a replica goes."
    )
    surge_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="Replicas that a redeploy starts beyond their number, at least one; with 0 an "
        "old one leaves first, where there is no room for both.",
    )

    @model_validator(mode="after")
    def _can_scale(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: {self.max_replicas} is below min_replicas {self.min_replicas}; "
                "raise it"
            )
        if self.target_pending_tokens >= self.max_pending_tokens:
            raise ValueError(
                f"target_pending_tokens: {self.target_pending_tokens} never waits, since requests "
                f"are refused at max_pending_tokens {self.max_pending_tokens}; lower it"
            )
        return self
