"""Prefix-packed forward passes: what inputs share is computed once, nothing is padded.

Needs a decoder whose layers see earlier tokens through attention alone (see ``choice``). In the
last layer only the rows that the head reads are computed. On a CPU a large batch is computed in
parts, side by side, and small steps by fused kernels where there are some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from reward_server.engine.attention import NAME, Layout, register
from reward_server.engine.fused import fuse, separate
from reward_server.engine.last_layer import narrow, widen
from reward_server.engine.memory import memory_guard
from reward_server.engine.packing import Packed, pack, sharing_order
from reward_server.engine.parts import cut, shares_of
from reward_server.engine.readout import Readout, Rows
from reward_server.protocol import EngineName
from reward_server.specs import KernelChoice
from reward_server.tokens import Labels, TokenInput


class PackedEngine:
    """Scores batches with shared prefixes. The backbone is changed until :func:`unpack`."""

    name: EngineName = "packed"

    def __init__(
        self,
        backbone: Any,
        readout: Readout,
        *,
        batch_tokens: int,
        kernels: KernelChoice = "auto",
    ) -> None:
        register()
        backbone.set_attn_implementation(NAME)
        self._backbone = backbone
        self._readout = readout
        self.is_fused = kernels == "auto" and fuse(backbone) > 0
        self._narrowed = [] if readout.needs_every_row else narrow(backbone)
        self._shares = shares_of(backbone.device, batch_tokens=batch_tokens)

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        """The order in which inputs share most, and the tokens that each adds in it."""
        return sharing_order([item.ids for item in inputs])

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        """The head's numbers for each input."""
        with memory_guard():
            if self._shares is None:
                return self._compute(inputs)
            order, marginal = self.order(inputs)
            full = [len(inputs[index].ids) for index in order]
            runs = cut(marginal, full, parts=self._shares.count)
            if len(runs) == 1:
                return self._compute(inputs)
            found = self._shares.map(
                self._compute, [[inputs[order[place]] for place in run] for run in runs]
            )
        labels: list[Labels] = [()] * len(inputs)
        for index, each in zip(order, (each for run in found for each in run), strict=True):
            labels[index] = each
        return labels

    @torch.inference_mode()
    def _compute(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        packed = pack([item.ids for item in inputs])
        device = self._backbone.device
        last_rows = None if self._readout.needs_every_row else packed.last
        layers = self._backbone.config.get_text_config().num_hidden_layers
        rows = torch.tensor(sorted(set(packed.last)), device=device)
        for module in self._narrowed:
            module.keep(rows)
        hidden_TD = self._backbone(
            input_ids=torch.tensor([packed.ids], device=device),
            position_ids=torch.tensor([packed.positions], device=device),
            use_cache=False,
            packed_layout=Layout(packed.segments, last_rows, last_layer=layers - 1),
        ).last_hidden_state[0]
        return self._readout(_rows(hidden_TD, packed), inputs)


def unpack(backbone: Any, attention: str) -> None:
    """Gives a backbone back what an engine changed, with ``attention`` as its implementation."""
    backbone.set_attn_implementation(attention)
    separate(backbone)
    widen(backbone)


def _rows(hidden_TD: torch.Tensor, packed: Packed) -> Rows:
    def places(index: int) -> list[int]:
        segments = [packed.segments[number] for number in packed.paths[index]]
        return [place for s in segments for place in range(s.start, s.start + s.length)]

    return Rows(hidden_TD, packed.last, places)
