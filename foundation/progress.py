"""How far a training job is. Knows nothing of trainers or terminals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The state after an optimizer step: its mean loss, and the seconds since training began."""

    step: int
    total_steps: int
    loss: float
    seconds: float
