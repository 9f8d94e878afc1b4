"""Fixtures: a tiny world of remedies, and a tiny policy made from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from corpora.conversation import Conversation
from corpora.preference import Pair
from corpora.world import Demonstration
from policy.training.config import ScratchConfig
from policy.training.scratch import create_base_policy

REMEDIES = {
    "a cold": "warm soup and sleep",
    "a cough": "honey in hot tea",
    "a burn": "cool running water",
    "a blister": "a clean dry plaster",
    "a sprain": "rest and a cold pack",
    "hay fever": "closed windows at night",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads gain nothing on models of this size, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demonstrations() -> list[Demonstration]:
    return [
        Demonstration(Conversation.ask(f"{opening} {illness}?"), f"Try {remedy}.")
        for opening in ("What helps", "What is good for", "How do I treat", "What eases")
        for illness, remedy in REMEDIES.items()
    ]


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    illnesses = list(REMEDIES)
    return [
        Pair(
            Conversation.ask(f"What helps {illness}?"),
            chosen=f"Try {REMEDIES[illness]}.",
            rejected=f"It is hard to say. Try {REMEDIES[other]}.",
            chosen_reward=3.0,
            rejected_reward=-1.0,
        )
        for illness, other in zip(illnesses, illnesses[1:] + illnesses[:1], strict=True)
    ]


@pytest.fixture(scope="session")
def tiny() -> ScratchConfig:
    return ScratchConfig(
        vocabulary_size=320,
        hidden_size=64,
        layers=2,
        heads=2,
        intermediate_size=128,
        max_positions=128,
    )


@pytest.fixture(scope="session")
def base(
    tmp_path_factory: pytest.TempPathFactory,
    demonstrations: list[Demonstration],
    tiny: ScratchConfig,
) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "base"
    create_base_policy(demonstrations, tiny, folder, seed=0)
    return folder
