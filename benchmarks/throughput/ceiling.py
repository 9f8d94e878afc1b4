"""What the matrix products alone would allow.

A forward pass of M tokens multiplies an M×K by a K×N matrix in each linear layer. The ceiling is
the rate at which tokens could pass if a forward were these products and nothing else: no attention,
no norms, no Python. Each product is timed alone with the precision, threads and device of the run,
its fastest time counts, and layers that read the same input are also tried as one wide product, so
an engine that fuses them is not above its ceiling.

K input size of a layer, N output size, M tokens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from benchmarks.throughput.options import DType

FUSED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})
"""Layers that read the same input, by the names that Llama, Mistral, Qwen and Gemma share."""

LEAST_TRIALS, LEAST_SECONDS = 10, 0.3
"""A product is timed until both are reached."""

LAUNCHES = 5
"""Products behind each other in one timing on a GPU."""


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """A linear layer."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, order=True)
class Product:
    """Layers of one size: ``count`` products M×K by K×N."""

    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Products of one forward pass of ``tokens`` tokens, and the seconds of each alone."""

    tokens: int
    seconds: dict[Product, float]

    @property
    def total_seconds(self) -> float:
        """All products of the pass."""
        return sum(product.count * seconds for product, seconds in self.seconds.items())

    @property
    def tflops(self) -> float:
        """Multiply-adds count two."""
        operations = sum(
            2 * self.tokens * product.inputs * product.outputs * product.count
            for product in self.seconds
        )
        return operations / self.total_seconds / 1e12

    @property
    def tokens_per_s(self) -> float:
        """Tokens through all linear layers."""
        return self.tokens / self.total_seconds


def linear_layers(module: Any) -> list[Layer]:
    """The linear layers of the backbone, the head left out."""
    return [
        Layer(name, child.in_features, child.out_features)
        for name, child in module.base_model.named_modules()
        if isinstance(child, torch.nn.Linear)
    ]


def products(layers: Iterable[Layer], *, is_fused: bool) -> list[Product]:
    """The products of one forward pass, equal sizes together."""
    sizes: Counter[tuple[int, int]] = Counter()
    wide: dict[tuple[str, int, int], int] = {}
    for layer in layers:
        parent, _, name = layer.name.rpartition(".")
        kind = next((index for index, names in enumerate(FUSED) if name in names), None)
        if is_fused and kind is not None:
            key = (parent, kind, layer.inputs)
            wide[key] = wide.get(key, 0) + layer.outputs
        else:
            sizes[layer.inputs, layer.outputs] += 1
    for (_, _, inputs), outputs in wide.items():
        sizes[inputs, outputs] += 1
    return sorted(Product(*size, count) for size, count in sizes.items())


Stopwatch = Callable[[Product], float]


def measure_ceiling(layers: Iterable[Layer], *, tokens: int, stopwatch: Stopwatch) -> Ceiling:
    """The better of plain and fused products.

    Args:
        layers: of the model.
        tokens: M, the tokens of one forward pass.
        stopwatch: seconds of one product of a size.
    """
    known = list(layers)
    ceilings = [
        Ceiling(tokens, {product: stopwatch(product) for product in products(known, is_fused=way)})
        for way in (False, True)
    ]
    return max(ceilings, key=lambda ceiling: ceiling.tokens_per_s)


def stopwatch(*, tokens: int, dtype: DType, device: str) -> Stopwatch:
    """Times products of ``tokens`` rows on a device; gives the fastest seen, in seconds."""

    @torch.inference_mode()
    def watch(product: Product) -> float:
        kind = getattr(torch, dtype)
        x_MK = torch.randn(tokens, product.inputs, device=device).to(kind)
        weight_NK = torch.randn(product.outputs, product.inputs, device=device).to(kind)
        one = _one_on_gpu if device == "cuda" else _one_on_cpu
        best, trials, begun = one(x_MK, weight_NK), 0, time.perf_counter()
        while trials < LEAST_TRIALS or time.perf_counter() - begun < LEAST_SECONDS:
            best = min(best, one(x_MK, weight_NK))
            trials += 1
        return best

    return watch


def _one_on_cpu(x_MK: torch.Tensor, weight_NK: torch.Tensor) -> float:
    started = time.perf_counter()
    functional.linear(x_MK, weight_NK)
    return time.perf_counter() - started


def _one_on_gpu(x_MK: torch.Tensor, weight_NK: torch.Tensor) -> float:
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    for _ in range(LAUNCHES):  # one alone would also time its launch
        functional.linear(x_MK, weight_NK)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / LAUNCHES
