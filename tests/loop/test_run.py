from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from corpora.clinic import ClinicWorld
from foundation.errors import JobError
from foundation.reporting import Reporter
from foundation.settings import load_settings
from loop.collect import Collector
from loop.config import Recipe
from loop.folder import open_run_folder
from loop.ledger import Ledger
from loop.run import Run, Services
from policy.client import BASE
from tests.loop.fakes import FakePolicy, FakeReward
from tests.loop.runs import MINI


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run whose policy refuses every question; it needs no server, so there is none."""
    recipe = load_settings(Recipe, MINI)
    world = ClinicWorld()
    asked = world.heldout_questions(12)
    policy = FakePolicy(failing=frozenset(question.conversation.last for question in asked))
    with Ledger(tmp_path) as ledger:
        yield Run(
            recipe=recipe,
            folder=open_run_folder(tmp_path / "run", recipe, resume=False),
            ledger=ledger,
            reporter=Reporter(stream=io.StringIO()),
            world=world,
            services=collecting(policy),
            base_model="base",
        )


def collecting(policy: FakePolicy) -> Services:
    """Services of which only the collector is there."""
    clients: dict[str, Any] = {"policy": policy, "reward": FakeReward()}
    collector = Collector(**clients, fingerprint="f00d", window=4)
    return cast("Services", SimpleNamespace(collector=collector))


def test_a_served_policy_that_answers_nothing_ends_the_run_and_is_asked_again(run: Run) -> None:
    with pytest.raises(JobError, match=r"heldout/base: all 12 questions failed, as in: .*too long"):
        asyncio.run(run.answer_heldout(BASE))
    mended = replace(run, services=collecting(FakePolicy()))
    assert len(asyncio.run(mended.answer_heldout(BASE))) == 12


def test_a_trained_policy_that_answers_nothing_is_left_to_the_gate(run: Run) -> None:
    groups = asyncio.run(run.answer_heldout("r1"))
    assert len(groups) == 12
    assert all(group.has_error for group in groups)
