"""Fixtures: a reward model and a language model in folders, tiny and random."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reward_server.engine.small import save_causal, save_classifier
from tests.reward_server.tiny import make_tokenizer


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward_model")
    save_classifier(folder, make_tokenizer())
    return folder


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    save_causal(folder, make_tokenizer())
    return folder
