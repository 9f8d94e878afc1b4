"""Length-sorted padded batches: the way that every model allows.

Promises: neighbours in a batch do not matter beyond rounding; the head reads the last token, found
by length, so a pad id inside the text cannot move it.

Axes: B inputs of a batch, L the longest of them in tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from reward_server.engine.memory import memory_guard
from reward_server.engine.readout import Readout, Rows
from reward_server.protocol import EngineName
from reward_server.tokens import Labels, TokenInput

Forward = Callable[[torch.Tensor, torch.Tensor, Sequence[TokenInput]], list[Labels]]
"""From ids and mask, both ``[B, L]`` and padded on the right, to the numbers of each input."""


class PaddedEngine:
    """Scores batches of like length."""

    name: EngineName = "padded"

    def __init__(self, forward: Forward, *, device: torch.device, max_batch_tokens: int) -> None:
        self._forward = forward
        self._device = device
        self._max_batch_tokens = max_batch_tokens

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        """Longest first, and the tokens of each."""
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids), reverse=True)
        return order, [len(inputs[i].ids) for i in order]

    @torch.inference_mode()
    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        """The head's numbers for each input, in as many forward passes as the padding asks for."""
        labels: list[Labels] = [()] * len(inputs)
        for batch in plan_batches([len(item.ids) for item in inputs], self._max_batch_tokens):
            members = [inputs[index] for index in batch]
            with memory_guard():
                found = self._forward(*self._pad(members), members)
            for index, each in zip(batch, found, strict=True):
                labels[index] = each
        return labels

    def _pad(self, inputs: Sequence[TokenInput]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(item.ids) for item in inputs)
        # The id under the mask is never read, so any id of the vocabulary will do.
        rows = [[*item.ids, *[0] * (longest - len(item.ids))] for item in inputs]
        lengths_B = torch.tensor([len(item.ids) for item in inputs])
        mask_BL = torch.arange(longest) < lengths_B[:, None]
        return torch.tensor(rows, device=self._device), mask_BL.long().to(self._device)


def backbone_forward(backbone: Any, readout: Readout) -> Forward:
    """The way of a decoder: hidden states, then the readout."""

    def forward(
        ids_BL: torch.Tensor, mask_BL: torch.Tensor, inputs: Sequence[TokenInput]
    ) -> list[Labels]:
        # Without padding there is nothing to mask, and attention without a mask is faster.
        mask = mask_BL if len({len(item.ids) for item in inputs}) > 1 else None
        hidden_BLD = backbone(
            input_ids=ids_BL, attention_mask=mask, use_cache=False
        ).last_hidden_state
        longest = ids_BL.shape[1]
        rows = Rows(
            hidden_BLD.flatten(0, 1),
            last=[row * longest + len(item.ids) - 1 for row, item in enumerate(inputs)],
            places=lambda row: range(row * longest, row * longest + len(inputs[row].ids)),
        )
        return readout(rows, inputs)

    return forward


def classifier_forward(model: Any) -> Forward:
    """The way of an encoder: the model's own pooling and classifier."""
    has_token_types = getattr(model.config, "type_vocab_size", 0) > 1

    def forward(
        ids_BL: torch.Tensor, mask_BL: torch.Tensor, inputs: Sequence[TokenInput]
    ) -> list[Labels]:
        more = {}
        if has_token_types:
            places_L = torch.arange(ids_BL.shape[1])
            starts_B = torch.tensor([item.start or ids_BL.shape[1] for item in inputs])
            more["token_type_ids"] = (places_L >= starts_B[:, None]).long().to(ids_BL.device)
        logits = model(input_ids=ids_BL, attention_mask=mask_BL, **more).logits
        return [tuple(labels) for labels in logits.float().tolist()]

    return forward


def plan_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Indices of ``lengths`` in batches of like length.

    The padded size of a batch, its longest times its count, stays within ``max_batch_tokens``,
    except that an input longer than the whole budget makes a batch of one.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batches and longest * (len(batches[-1]) + 1) <= max_batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches
