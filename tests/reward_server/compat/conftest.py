"""Fixtures: every wire over a fake service; and vLLM beside this project's server, both real."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from fastapi import FastAPI
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, LlamaConfig

from foundation.process import ChildProcess, free_port
from policy.config import HEAD_SIZES
from policy.launch import is_cpu_build
from tests.reward_server.compat.fake import FakeScoring, make_app
from tests.reward_server.tiny import BOS, make_tokenizer

START_SECONDS = 300.0


@pytest.fixture
def scoring() -> FakeScoring:
    return FakeScoring()


@pytest.fixture(scope="session")
def wires_app() -> FastAPI:
    """Made once: its schemas take a while."""
    return make_app(FakeScoring())


@pytest.fixture
async def wires(wires_app: FastAPI, scoring: FakeScoring) -> AsyncIterator[httpx.AsyncClient]:
    """A client of all wires; what answers is ``scoring``."""
    wires_app.state.scoring_for = lambda request: scoring
    transport = httpx.ASGITransport(app=wires_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random reward model with heads of a size that vLLM computes on a CPU.

    Its tokenizer puts a BOS before a text, and one before a pair, as Llama's do before a text.
    """
    folder = tmp_path_factory.mktemp("llama_reward_model")
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.bos_token_id)]
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2 * HEAD_SIZES[0],
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    torch.nn.init.normal_(model.score.weight, std=0.5)  # rewards of about the size of real ones
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vllm_pooling_url(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The installed vLLM, serving the model as a classifier; takes more than a minute to start."""
    url, port = _free_url()
    options = {
        "model": llama_folder,
        "served-model-name": "default",
        "host": "127.0.0.1",
        "port": port,
        "runner": "pooling",
        "dtype": "float32",
        "max-num-seqs": 16,
        "uvicorn-log-level": "warning",
    }
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"),
        *(part for name, value in options.items() for part in (f"--{name}", str(value))),
    ]
    environment = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if is_cpu_build():
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}
    log_file = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with ChildProcess(command, log_file=log_file, environment=environment) as child:
        child.wait_until_ready(f"{url}/health", timeout=START_SECONDS)
        yield url


@pytest.fixture(scope="session")
def our_http(
    llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of this project's server, a process of its own, with the same model."""
    url, port = _free_url()
    command = [
        *(sys.executable, "-m", "reward_server", "--model", str(llama_folder)),
        *("--port", str(port), "--dtype", "float32"),
    ]
    log_file = tmp_path_factory.mktemp("reward_server") / "server.log"
    with ChildProcess(command, log_file=log_file) as child:
        child.wait_until_ready(f"{url}/health/ready", timeout=START_SECONDS)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            yield client


def _free_url() -> tuple[str, int]:
    port = free_port()
    return f"http://127.0.0.1:{port}", port
