"""Fixtures: tiny reward models in folders, and this project's real server with all of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import uvicorn

from foundation.process import free_port
from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from tests.reward_server.engine.small import make_pair_tokenizer, save_classifier
from tests.reward_server.tiny import make_tokenizer, save_model

POISON = "Q"
"""A candidate for which the model called ``sick`` gives no number."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, make_tokenizer())
    return folder


@pytest.fixture(scope="session")
def sick_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sick")
    tokenizer = make_tokenizer()
    model = save_model(folder, tokenizer)
    token = tokenizer.encode(POISON, add_special_tokens=False)[0]
    model.get_input_embeddings().weight.data[token] = math.nan
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_classifier(folder, make_pair_tokenizer(), "bert", bos_token_id=None, eos_token_id=None)
    return folder


@pytest.fixture(scope="session")
def server(model_folder: Path, sick_folder: Path, encoder_folder: Path) -> Iterator[str]:
    """The URL of a real server; its models are ``default``, ``sick`` and ``encoder``.

    It has no cache, so that the same groups in requests of another size are computed again.
    """
    further = {
        name: {"kind": "sequence_classification", "model": str(folder), "dtype": "float32"}
        for name, folder in (("sick", sick_folder), ("encoder", encoder_folder))
    }
    config = RewardServerConfig.model_validate(
        {
            "model": str(model_folder),
            "dtype": "float32",
            "models": further,
            "cache_entries": 0,
        }
    )
    port = free_port()
    running = uvicorn.Server(
        uvicorn.Config(create_app(config), host="127.0.0.1", port=port, log_level="error")
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.02)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(30)
