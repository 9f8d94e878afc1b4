"""A trainer's view of the tiny policy, which ``tests/conftest.py`` makes and serves."""

from __future__ import annotations

import pytest

from policy.deploy import write_canaries
from tests.policy.tiny import TinyPolicy, TrainerView


@pytest.fixture(scope="session")
def trainer(tiny_policy: TinyPolicy) -> TrainerView:
    """Has written the canaries of every adapter."""
    view = TrainerView(tiny_policy)
    for name, path in tiny_policy.adapters.items():
        write_canaries(path, view.canaries(name))
    return view
