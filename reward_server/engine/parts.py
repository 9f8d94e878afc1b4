"""A batch in parts, one for each share of a CPU's cores.

On a CPU the many small steps of attention gain little from a second core, and every one of them
waits for all cores. Parts that each run on their own cores from end to end do not wait for each
other. A batch is cut only where that repeats hardly any shared prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

MIN_PART_TOKENS = 768
"""A smaller part is not worth a core of its own."""

MAX_GROWTH = 1.2
"""How much longer than an even share the longest part may be."""

T = TypeVar("T")
R = TypeVar("R")


class Shares:
    """Threads that each compute on an equal share of the cores.

    Args:
        count: of shares.
        cores: threads that torch computes with when nothing is shared.
    """

    def __init__(self, count: int, *, cores: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="part")
        together = Barrier(count)  # so that every thread of the pool is reached
        list(self._threads.map(lambda _: _take_share(together, cores // count), range(count)))
        # The number that threads to come start with is the one set last.
        torch.set_num_threads(cores)

    def map(self, work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        """``work`` of every part, in order; the first failure is raised when all have ended."""
        futures = [self._threads.submit(work, part) for part in parts]
        failures = [error for future in futures if (error := future.exception()) is not None]
        if failures:
            raise failures[0]
        return [future.result() for future in futures]


def _take_share(together: Barrier, threads: int) -> None:
    # A thread takes over the common number when it first needs one, so that comes before its own.
    torch.get_num_threads()
    torch.set_num_threads(max(1, threads))
    together.wait()


def shares_of(device: torch.device, *, batch_tokens: int) -> Shares | None:
    """The shares that batches of ``batch_tokens`` are computed on; ``None`` for the whole."""
    cores = torch.get_num_threads()
    count = min(cores, batch_tokens // MIN_PART_TOKENS)
    return Shares(count, cores=cores) if device.type == "cpu" and count > 1 else None


def cut(marginal: Sequence[int], full: Sequence[int], *, parts: int) -> list[range]:
    """Inputs in sharing order, cut into ``parts`` runs of about the same number of tokens.

    Args:
        marginal: tokens that each input adds behind the one before it.
        full: tokens of each input.
        parts: runs.

    Returns:
        The runs; one of all inputs where there is too little for so many, or where the longest run
        would be longer than an even share of the tokens by more than :data:`MAX_GROWTH`.
    """
    total, everything = sum(marginal), [range(len(marginal))]
    if total < parts * MIN_PART_TOKENS:
        return everything
    ends = [0]
    for left in range(parts, 1, -1):
        ends.append(_nearest_end(marginal, full, ends[-1], runs_left=left))
    runs = [range(a, b) for a, b in pairwise([*ends, len(marginal)]) if a < b]
    longest = max(full[run.start] + sum(marginal[run.start + 1 : run.stop]) for run in runs)
    is_even = len(runs) == parts and longest * parts <= MAX_GROWTH * total
    return runs if is_even else everything


def _nearest_end(
    marginal: Sequence[int], full: Sequence[int], start: int, *, runs_left: int
) -> int:
    """Where the run from ``start`` should end so that it and the later ones are about as long."""
    run = full[start] if start < len(full) else 0
    rest = sum(marginal[start + 1 :])
    best: float = run + rest
    best_end = len(marginal)
    for end in range(start + 1, len(marginal)):
        rest -= marginal[end]
        later = (full[end] + rest) / (runs_left - 1)
        if max(run, later) < best:
            best, best_end = max(run, later), end
        run += marginal[end]
    return best_end
