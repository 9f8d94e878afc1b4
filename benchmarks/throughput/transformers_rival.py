"""The first rival: the plain transformers forward, one input at a time or in sorted batches.

The way the library's own documentation shows, then tuned: the best of a few batch sizes and of the
two attentions that ship with it.

B inputs of a batch, L the longest of them in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from benchmarks.throughput.methods import MethodFailed, Untuned
from benchmarks.throughput.models import device
from benchmarks.throughput.workloads import Draw, Ids

BATCH_SIZES = {"cpu": (4, 8, 16), "cuda": (8, 16, 32, 64)}
ATTENTIONS = ("sdpa", "eager")
"""Both ship with transformers, and which is faster depends on lengths and device."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Inputs of a batch, and the attention that computes them."""

    size: int
    attention: str

    def __str__(self) -> str:
        return f"batches of {self.size}, {self.attention} attention"


class TransformersMethod(Untuned):
    """The plain forward of ``AutoModelForSequenceClassification``.

    Args:
        module: the model as ``from_pretrained`` gives it.
        sizes: batch sizes to choose from. Inputs are sorted by length and padded at their end.
    """

    def __init__(self, module: Any, sizes: Sequence[int]) -> None:
        self.module = module
        self._batchings = [Batching(*pair) for pair in product(sizes, ATTENTIONS)]
        self.choices = [str(batching) for batching in self._batchings]
        self._size = self._batchings[0].size
        self._attention = self._batchings[0].attention

    def choose(self, index: int) -> None:
        self._size = self._batchings[index].size
        self._attention = self._batchings[index].attention

    def prepare(self, draw: Draw) -> None:
        self.module.set_attn_implementation(self._attention)

    def score(self, draw: Draw) -> list[float]:
        inputs = draw.inputs
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]), reverse=True)
        if self._size == 1:  # one at a time needs no order
            order = list(range(len(inputs)))
        rewards = [0.0] * len(inputs)
        for start in range(0, len(order), self._size):
            batch = order[start : start + self._size]
            for index, reward in zip(batch, self.forward([inputs[i] for i in batch]), strict=True):
                rewards[index] = reward
        return rewards

    @torch.inference_mode()
    def forward(self, batch: Sequence[Ids]) -> list[float]:
        """The rewards of one batch.

        Raises:
            MethodFailed: if the model has no pad token and there is something to pad.
        """
        longest = max(map(len, batch))
        pad = self.module.config.pad_token_id
        if pad is None and len(batch) > 1:
            raise MethodFailed("the model's config.json names no pad_token_id, so nothing pads")
        ids_BL = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in batch])
        mask_BL = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch])
        where = self.module.device
        logits_B1 = self.module(ids_BL.to(where), attention_mask=mask_BL.to(where)).logits
        rewards: list[float] = logits_B1[:, 0].float().tolist()
        return rewards


def transformers_single(module: Any) -> TransformersMethod:
    """One input after the other."""
    return TransformersMethod(module, [1])


def transformers_sorted(module: Any) -> TransformersMethod:
    """Batches of like length; the best of a few batch sizes is taken."""
    return TransformersMethod(module, BATCH_SIZES[device()])
