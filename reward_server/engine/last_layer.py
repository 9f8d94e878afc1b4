"""The last layer, for the rows that the head reads.

Later layers, which would need the others, do not exist. What lies behind the layer's keys and
values is told the rows before each forward pass and computes no more. Knows nothing of batches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch


class RowsOnly(torch.nn.Module):
    """Applies a module that treats every row alike to some rows; the others become zero.

    Which rows is told before each forward pass, on the thread that makes it.
    """

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self._told = threading.local()

    def keep(self, rows: torch.Tensor) -> None:
        """Says which rows the next forward pass of this thread needs."""
        self._told.rows = rows

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor | None = getattr(self._told, "rows", None)
        if rows is None:
            result: torch.Tensor = self.inner(hidden_BTD)
            return result
        found_BRE: torch.Tensor = self.inner(hidden_BTD[:, rows])
        out_BTE = found_BRE.new_zeros(*hidden_BTD.shape[:2], found_BRE.shape[-1])
        out_BTE[:, rows] = found_BRE
        return out_BTE


def narrow(backbone: Any) -> list[RowsOnly]:
    """Puts :class:`RowsOnly` around what of the last layer only its last rows need.

    That is all but keys and values, where the model has the usual shape.
    """
    return [_narrowed(owner, name) for owner, name in _ends(backbone)]


def widen(backbone: Any) -> None:
    """Undoes :func:`narrow`."""
    for owner, name in _ends(backbone):
        module = getattr(owner, name)
        if isinstance(module, RowsOnly):
            setattr(owner, name, module.inner)


def _ends(backbone: Any) -> Iterator[tuple[Any, str]]:
    """Modules behind the last layer's keys and values, as owner and name."""
    layers = getattr(backbone, "layers", None)
    if not layers:
        return
    attention = getattr(layers[-1], "self_attn", None)
    for name in ("q_proj", "o_proj"):
        if isinstance(getattr(attention, name, None), torch.nn.Linear | RowsOnly):
            yield attention, name
    mlp = getattr(layers[-1], "mlp", None)
    if mlp is not None and not hasattr(getattr(mlp, "inner", mlp), "experts"):
        yield layers[-1], "mlp"


def _narrowed(owner: Any, name: str) -> RowsOnly:
    module = getattr(owner, name)
    if not isinstance(module, RowsOnly):
        module = RowsOnly(module)
        setattr(owner, name, module)
    return module
