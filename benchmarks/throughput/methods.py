"""What every way of scoring has in common, so that all are timed alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from benchmarks.throughput.workloads import Draw
from foundation.errors import JobError


class MethodFailed(JobError):
    """A method gave no rewards, or not to what was asked. The message is one line."""


class Method(Protocol):
    """A way of scoring. Methods that have a choice to make are tuned first."""

    @property
    def choices(self) -> Sequence[str]:
        """What may be chosen, in words; a single one where there is nothing to tune."""
        ...

    @property
    def settle_seconds(self) -> float:
        """How long it still keeps the machine busy after it has answered."""
        ...

    def choose(self, index: int) -> None:
        """Takes one of :attr:`choices` from now on."""
        ...

    def prepare(self, draw: Draw) -> None:
        """What must be so before ``draw`` is scored; not timed."""
        ...

    def score(self, draw: Draw) -> list[float]:
        """The rewards of all inputs in their order; timed.

        Raises:
            MethodFailed: if an input got no reward.
        """
        ...


class Untuned:
    """The part of :class:`Method` that a method without choices has."""

    choices: Sequence[str] = ("as it is",)
    settle_seconds = 0.0

    def choose(self, index: int) -> None:
        """There is nothing to choose."""

    def prepare(self, draw: Draw) -> None:
        """There is nothing to prepare."""
