"""Fixtures: two saved models, and a server of one of them that computes every input alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reward_server.faults.load import Job, make_job
from tests.reward_server.faults.process import Process
from tests.reward_server.tiny import make_tokenizer, save_model

SLOW = ("--dtype", "float32", "--deterministic", "--cache-entries", "0")
"""Flags under which a tiny model takes its time: nothing is shared, nothing remembered."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two reward models that differ in their weights."""
    made = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"model_{seed}")
        save_model(folder, make_tokenizer(), seed=seed)
        made.append(folder)
    first, second = made
    return first, second


@pytest.fixture(scope="session")
def job() -> Job:
    """A request that keeps a slow server busy for a quarter of a second or more."""
    return make_job(candidates=256)


@pytest.fixture(scope="session")
def slow_server(folders: tuple[Path, Path]) -> Iterator[Process]:
    """A server of the first model; those who share it leave it as it was."""
    with Process("--model", str(folders[0]), *SLOW) as process:
        yield process
