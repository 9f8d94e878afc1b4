from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.throughput.ceiling import linear_layers
from benchmarks.throughput.models import BenchModel, open_model
from benchmarks.throughput.options import ThroughputConfig
from benchmarks.throughput.transformers_rival import transformers_single, transformers_sorted
from benchmarks.throughput.workloads import Draw, Lengths, make_workload
from foundation.errors import UserError

LENGTHS = Lengths(conversation=40, shortest=5, longest=30)


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """A tiny model is faster on one thread, and tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    folder = tmp_path_factory.mktemp("throughput") / "model"
    return open_model(ThroughputConfig(shape="tiny"), folder)


@pytest.fixture(scope="module")
def draw(model: BenchModel) -> Draw:
    workload = make_workload("best_of_4", groups=2, lengths=LENGTHS, seed=0)
    return workload.draw(model.words(), model.render, repetition="0")


def test_lengths_are_hit_up_to_what_the_template_adds(draw: Draw) -> None:
    # A word at the start of a text has no space before it, and may have other tokens there.
    for group in draw.rendered:
        assert abs(len(group.prompt) - (LENGTHS.conversation + 4)) <= 3
        assert group.prefix == len(group.prompt)
        for ids in group.inputs:
            added = len(ids) - len(group.prompt) - 1
            assert LENGTHS.shortest - 3 <= added <= LENGTHS.longest + 3


def test_sorted_batches_give_the_rewards_of_one_at_a_time(model: BenchModel, draw: Draw) -> None:
    module = model.build("float32")
    alone = transformers_single(module).score(draw)
    for index, choice in enumerate((method := transformers_sorted(module)).choices):
        method.choose(index)
        method.prepare(draw)
        np.testing.assert_allclose(method.score(draw), alone, atol=1e-4, err_msg=choice)


def test_rewards_differ_between_candidates(model: BenchModel, draw: Draw) -> None:
    rewards = transformers_single(model.build("float32")).score(draw)
    assert np.std(rewards) > 0.05


def test_a_model_without_a_folder_is_built_the_same_every_time(model: BenchModel) -> None:
    built = BenchModel(
        name="tiny", tokenizer=model.tokenizer, config=model.config, seed=0, folder=None
    )
    saved = model.build("float32").state_dict()
    for name, weights in built.build("float32").state_dict().items():
        assert torch.equal(weights, saved[name])
    for name, weights in built.build("bfloat16").state_dict().items():
        assert torch.equal(weights, saved[name].to(torch.bfloat16))


def test_the_ceiling_knows_all_linear_layers_and_no_head(model: BenchModel) -> None:
    layers = linear_layers(model.build("float32"))
    assert len(layers) == 2 * 7
    assert all(layer.outputs > 1 for layer in layers)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model"):
        open_model(ThroughputConfig(model=tmp_path), tmp_path / "unused")
