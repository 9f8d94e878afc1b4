from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput.ceiling import Layer, Product, measure_ceiling, products

BLOCK = (
    ("self_attn.q_proj", 8, 8),
    ("self_attn.k_proj", 8, 2),
    ("self_attn.v_proj", 8, 2),
    ("self_attn.o_proj", 8, 8),
    ("mlp.gate_proj", 8, 20),
    ("mlp.up_proj", 8, 20),
    ("mlp.down_proj", 20, 8),
)


def layers(count: int) -> list[Layer]:
    return [Layer(f"layers.{n}.{name}", *size) for n in range(count) for name, *size in BLOCK]


def operations(known: list[Product]) -> int:
    return sum(product.inputs * product.outputs * product.count for product in known)


def test_equal_sizes_are_one_product() -> None:
    assert products(layers(3), is_fused=False) == [
        Product(8, 2, 6),
        Product(8, 8, 6),
        Product(8, 20, 6),
        Product(20, 8, 3),
    ]


def test_layers_of_one_input_can_be_one_wide_product() -> None:
    assert products(layers(3), is_fused=True) == [
        Product(8, 8, 3),
        Product(8, 12, 3),
        Product(8, 40, 3),
        Product(20, 8, 3),
    ]


@given(st.integers(1, 5))
def test_fusing_changes_no_number_of_operations(count: int) -> None:
    plain, fused = (products(layers(count), is_fused=way) for way in (False, True))
    assert operations(plain) == operations(fused)


def test_a_layer_of_another_name_stands_alone() -> None:
    assert products([Layer("h.0.attn.c_attn", 8, 24)], is_fused=True) == [Product(8, 24, 1)]


def test_the_ceiling_is_all_products_of_a_pass_one_after_the_other() -> None:
    ceiling = measure_ceiling([Layer("a", 10, 10)] * 4, tokens=100, stopwatch=lambda product: 0.5)
    assert ceiling.total_seconds == 2.0
    assert ceiling.tokens_per_s == 50.0
    assert ceiling.tflops == pytest.approx(4 * 2 * 100 * 10 * 10 / 2.0 / 1e12)


@pytest.mark.parametrize(
    ("seconds_of_wide", "is_fused"), [pytest.param(0.1, True), pytest.param(9.0, False)]
)
def test_the_faster_way_counts(seconds_of_wide: float, is_fused: bool) -> None:
    def watch(product: Product) -> float:
        return seconds_of_wide if product.outputs in (12, 40) else 1.0

    ceiling = measure_ceiling(layers(1), tokens=10, stopwatch=watch)
    assert sorted(ceiling.seconds) == products(layers(1), is_fused=is_fused)
