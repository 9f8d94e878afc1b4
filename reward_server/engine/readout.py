"""From hidden states to the numbers of a head: last token, or log-probability of a candidate.

Heads compute in float32: in bfloat16 neighbouring rewards would round into ties.

Axes: R rows of hidden states, D hidden size, N inputs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import linear

from reward_server.tokens import Labels, TokenInput


@dataclass(frozen=True, slots=True)
class Rows:
    """Final hidden states, and where the inputs' tokens are among them."""

    hidden_RD: torch.Tensor
    last: Sequence[int]
    """For each input, the row of its last token."""

    places: Callable[[int], Sequence[int]]
    """Rows of all tokens of the input of that index, in order."""


class Readout(Protocol):
    """Turns hidden states into numbers."""

    needs_every_row: bool
    """Whether hidden states other than those of last tokens are read."""

    def __call__(self, rows: Rows, inputs: Sequence[TokenInput]) -> list[Labels]:
        """The numbers of each input, in order."""
        ...


class LastToken:
    """A linear head at the last token of an input."""

    needs_every_row = False

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        softcap: float | None = None,
    ) -> None:
        self._weight = weight.detach().float()
        self._bias = None if bias is None else bias.detach().float()
        self._softcap = softcap

    def __call__(self, rows: Rows, inputs: Sequence[TokenInput]) -> list[Labels]:
        last_ND = rows.hidden_RD[list(rows.last)].float()
        logits = capped(linear(last_ND, self._weight, self._bias), self._softcap)
        return [tuple(labels) for labels in logits.tolist()]


class LastHidden:
    """The last token's hidden state itself, to compare two ways of computing it."""

    needs_every_row = False

    def __call__(self, rows: Rows, inputs: Sequence[TokenInput]) -> list[Labels]:
        return [tuple(state) for state in rows.hidden_RD[list(rows.last)].float().tolist()]


class LogProbability:
    """Sum of the log-probabilities of a candidate's tokens, in nats."""

    needs_every_row = True

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        softcap: float | None = None,
        rows_at_once: int = 512,
    ) -> None:
        self._weight_VD = weight.detach()
        self._bias = None if bias is None else bias.detach()
        self._softcap = softcap
        self._rows_at_once = rows_at_once

    def __call__(self, rows: Rows, inputs: Sequence[TokenInput]) -> list[Labels]:
        return [(self._sum(rows, index, item),) for index, item in enumerate(inputs)]

    def _sum(self, rows: Rows, index: int, item: TokenInput) -> float:
        first = max(item.start, 1)  # nothing stands before the first token to predict it
        places = list(rows.places(index))[first - 1 : -1]
        targets = torch.tensor(item.ids[first:], device=rows.hidden_RD.device)
        total = 0.0
        for at in range(0, len(places), self._rows_at_once):
            part = slice(at, at + self._rows_at_once)
            logits_RV = linear(rows.hidden_RD[places[part]], self._weight_VD, self._bias).float()
            logits_RV = capped(logits_RV, self._softcap)
            chosen = logits_RV.gather(1, targets[part, None])[:, 0]
            total += float((chosen - logits_RV.logsumexp(-1)).double().sum())
        return total


def capped(logits: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Gemma 2's soft cap: ``softcap * tanh(logits / softcap)``."""
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap
