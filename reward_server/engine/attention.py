"""Attention over a packed sequence, as a function that transformers' models call.

A token sees its own input's tokens before it and nothing else: the segments of its context and,
causally, its own. Because a context is a whole path from the root, the keys of a segment stand in
the order of their positions: key ``j`` has position ``j``. Causality and sliding windows are then
comparisons of places.

Knows nothing of batches, heads or rewards. What it cannot do exactly, it refuses.

Axes: H query heads, K key/value heads, T tokens, R rows of a block, C keys of a block, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from reward_server.engine.packing import Segment

NAME = "medpref_packed"
"""What the function is called in transformers' registries."""

BLOCK_SCORES = 4 * 2**20
"""Attention scores computed at once, so that long inputs need no quadratic memory."""

CPU_BLOCK_ROWS = 192
"""Rows computed at once on a CPU: a block ends at its last row's own key, so most scores that the
causal order hides are never computed."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What attention needs to know of a packed sequence."""

    segments: tuple[Segment, ...]
    last_rows: tuple[int, ...] | None
    """Places that matter after the last layer; ``None`` if all do."""

    last_layer: int
    """Index of the last layer."""

    def rows_by_segment(self, layer: int) -> Iterator[tuple[Segment, tuple[int, ...] | None]]:
        """Segments with the rows, counted in the segment, that a layer needs; ``None`` for all."""
        if self.last_rows is None or layer != self.last_layer:
            yield from ((segment, None) for segment in self.segments)
            return
        rows = sorted(set(self.last_rows))
        for segment in self.segments:
            end = segment.start + segment.length
            inside = tuple(row - segment.start for row in rows if segment.start <= row < end)
            if inside:
                yield segment, inside


@dataclass(frozen=True, slots=True)
class Window:
    """What a model gets in the place of a mask where it asks for a sliding window."""

    size: int
    """How many positions back a token sees, itself included."""


class UnsupportedAttention(Exception):
    """The model asks attention for something that packing cannot give."""


def register() -> None:
    """Makes the function known to transformers under :data:`NAME`; harmless to repeat."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, no_mask)


def no_mask(*args: Any, local_size: int | None = None, **others: Any) -> Window | None:
    """No mask is built, since the layout says who sees whom; but a window is passed on.

    Some models tell attention of their window by the mask alone.
    """
    return None if local_size is None else Window(local_size)


def packed_attention(  # noqa: PLR0913  # the signature is transformers'
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Window | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed_layout: Layout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one packed sequence.

    Args:
        module: the attention layer, for its index.
        query: ``[1, H, T, D]``.
        key: ``[1, K, T, D]``.
        value: ``[1, K, T, D]``.
        attention_mask: what :func:`no_mask` made; nothing else will do.
        scaling: factor of the scores; by default ``D ** -0.5``.
        sliding_window: the window's size, where no mask tells it.
        softcap: scores become ``softcap * tanh(score / softcap)``.
        packed_layout: of the sequence.
        others: what else the model passes on.

    Returns:
        ``[1, T, H, D]``; rows that the layer does not need are zero.

    Raises:
        UnsupportedAttention: if the model wants other masks, sinks or position biases.
    """
    if not isinstance(attention_mask, Window | None):
        raise UnsupportedAttention(f"{type(module).__name__} wants a mask of its own")
    if packed_layout is None or others.get("s_aux") is not None:
        raise UnsupportedAttention(
            f"{type(module).__name__} wants attention sinks, or passes no layout on"
        )
    if others.get("position_bias") is not None:
        raise UnsupportedAttention(f"{type(module).__name__} wants position biases")
    step = _Step(
        key=key[0],
        value=value[0],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window if attention_mask is None else attention_mask.size,
        softcap=softcap,
    )
    _, heads, length, size = query.shape
    rows_THD = query.new_zeros if packed_layout.last_rows is not None else query.new_empty
    out_THD = rows_THD(length, heads, size)
    layer: int = getattr(module, "layer_idx", -1)
    for segment, rows in packed_layout.rows_by_segment(layer):
        step.attend(segment, rows, query[0], out_THD)
    return out_THD.unsqueeze(0), None


@dataclass(frozen=True, slots=True)
class _Step:
    """Keys, values and rules of one layer."""

    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    window: int | None
    softcap: float | None

    def attend(
        self,
        segment: Segment,
        rows: tuple[int, ...] | None,
        query_HTD: torch.Tensor,
        out_THD: torch.Tensor,
    ) -> None:
        """Fills the rows of ``segment`` in ``out_THD``."""
        key_KCD = self._gather(self.key, segment)
        value_KCD = self._gather(self.value, segment)
        most = segment.length if query_HTD.is_cuda else CPU_BLOCK_ROWS
        for first, last in self._blocks(segment, rows, heads=query_HTD.shape[0], most=most):
            here = slice(segment.start + first, segment.start + last)
            seen = segment.position + last
            oldest = self._oldest(segment.position + first)
            out_HRD = self._block(
                query_HTD[:, here], key_KCD[:, oldest:seen], value_KCD[:, oldest:seen]
            )
            out_THD[here] = out_HRD.transpose(0, 1)

    def _gather(self, states_KTD: torch.Tensor, segment: Segment) -> torch.Tensor:
        own = states_KTD[:, segment.start : segment.start + segment.length]
        if not segment.context:
            return own
        context = [states_KTD[:, start : start + length] for start, length in segment.context]
        return torch.cat([*context, own], dim=1)

    def _blocks(
        self, segment: Segment, rows: tuple[int, ...] | None, *, heads: int, most: int
    ) -> Iterator[tuple[int, int]]:
        if rows is not None:
            yield from ((row, row + 1) for row in rows)
            return
        keys = segment.position + segment.length
        blocks = math.ceil(segment.length / max(1, min(most, BLOCK_SCORES // (heads * keys))))
        size = math.ceil(segment.length / blocks)  # of one size, so that none is a remnant
        for first in range(0, segment.length, size):
            yield first, min(first + size, segment.length)

    def _oldest(self, position: int) -> int:
        return 0 if self.window is None else max(0, position - self.window + 1)

    def _block(
        self, query_HRD: torch.Tensor, key_KCD: torch.Tensor, value_KCD: torch.Tensor
    ) -> torch.Tensor:
        """Rows whose last sees all C keys, the one before it all but the last, and so on."""
        rows, keys = query_HRD.shape[1], key_KCD.shape[1]
        is_windowed = self.window is not None and keys > self.window
        if query_HRD.is_cuda and self.softcap is None and not is_windowed:
            return self._fused(query_HRD, key_KCD, value_KCD)
        heads, kv_heads = query_HRD.shape[0], key_KCD.shape[0]
        # Query heads that share a key head stand together, as transformers' repeat_kv has it.
        folded = query_HRD.reshape(kv_heads, heads // kv_heads * rows, -1)
        scores = torch.baddbmm(
            query_HRD.new_empty(*folded.shape[:2], keys),
            folded,
            key_KCD.transpose(1, 2),
            beta=0,
            alpha=self.scaling,
        ).view(heads, rows, keys)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if rows > 1:
            scores[:, :, keys - rows :] += _future(rows, scores)
        if is_windowed:
            assert self.window is not None
            scores += _too_old(rows, keys, self.window, scores)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value_KCD.dtype)
        return torch.bmm(weights.view(kv_heads, -1, keys), value_KCD).view(heads, rows, -1)

    def _fused(
        self, query_HRD: torch.Tensor, key_KCD: torch.Tensor, value_KCD: torch.Tensor
    ) -> torch.Tensor:
        bias: Any = causal_lower_right(query_HRD.shape[1], key_KCD.shape[1])
        return scaled_dot_product_attention(
            query_HRD.unsqueeze(0),
            key_KCD.unsqueeze(0),
            value_KCD.unsqueeze(0),
            attn_mask=bias,
            scale=self.scaling,
            enable_gqa=query_HRD.shape[0] != key_KCD.shape[0],
        )[0]


def _future(rows: int, like: torch.Tensor) -> torch.Tensor:
    """``[rows, rows]``: minus infinity where a row would see a later one.

    The upper left corner of the largest one so far, since every layer needs the same.
    """
    key = (like.dtype, like.device)
    known = _FUTURES.get(key)
    if known is None or known.shape[0] < rows:
        known = torch.full((rows, rows), -torch.inf, dtype=like.dtype, device=like.device).triu(1)
        _FUTURES[key] = known
    return known[:rows, :rows]


_FUTURES: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}


def _too_old(rows: int, keys: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """``[rows, keys]``: minus infinity where a key lies before the row's window."""
    device = like.device
    row_at = torch.arange(keys - rows, keys, device=device)[:, None]
    is_old = row_at - torch.arange(keys, device=device) >= window
    return torch.zeros(rows, keys, dtype=like.dtype, device=device).masked_fill(is_old, -torch.inf)
