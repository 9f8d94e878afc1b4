"""From flags to an endpoint: a server over some wire, or a model in this process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.endpoints.base import Endpoint
from benchmarks.endpoints.foreign import ForeignEndpoint
from benchmarks.endpoints.local import LocalEndpoint
from benchmarks.endpoints.native import NativeEndpoint
from benchmarks.endpoints.rendering import ChatText
from benchmarks.endpoints.wires import WIRES, WireName
from benchmarks.endpoints.wires.asking import Asking
from benchmarks.errors import BenchmarkError
from foundation.parsing import read_key
from foundation.settings import Settings
from reward_server.client import PATIENCE, ClientOptions
from reward_server.protocol import OnOverflow
from reward_server.specs import DTypeChoice, TransformerSpec

OF_A_SERVER = (
    *("wire", "model", "api_key_env", "tokenizer"),
    *("concurrency", "groups_per_request", "retry_seconds"),
)
IN_PROCESS = ("dtype", "deterministic", "max_length", "max_batch_tokens")


class EndpointSettings(Settings):
    """The flags that say what gives rewards: ``--server`` or ``--model-path``."""

    server: str | None = None
    """Where a reward server listens, such as ``http://127.0.0.1:8100``."""

    wire: Literal["native", WireName] = "native"
    """How to ask the server: native is this project's own; the others are those of other reward
    servers. openrlhf, llama-factory, kserve, tei-predict, sglang and sglang-classify need
    ``--tokenizer``; vllm-score, vllm-rerank and tei-rerank are for encoders of pairs."""

    model: str | None = None
    """Name of the reward model on the server; left out, it is the one that the server takes then,
    or default where the wire must name one."""

    api_key_env: str | None = None
    """Environment variable that holds the server's key."""

    tokenizer: Path | None = None
    """Folder of the reward model's tokenizer, for wires that carry rendered texts."""

    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests to the reward server that are under way together."""

    groups_per_request: int = Field(default=32, ge=1)
    """Groups of one request, where the wire can carry several."""

    retry_seconds: float = Field(default=PATIENCE.budget_seconds, ge=0)
    """How long a server that is out of reach or too busy is waited for."""

    on_overflow: OnOverflow = "error"
    """An input that is too long: an error, or cut the beginning of its conversation (native wire
    and in this process)."""

    model_path: Path | None = None
    """Folder of a sequence classification model to load in this process, in place of a server."""

    dtype: DTypeChoice = "auto"
    """Precision in this process; auto is bfloat16 where the machine computes in it."""

    deterministic: bool = False
    """Whether every input is computed alone in this process. Slower."""

    max_length: int | None = Field(default=None, ge=2)
    """Longest input in tokens in this process; left out, it is what the model was built for."""

    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass in this process; left out, it is what suits the device."""


def open_endpoint(
    settings: EndpointSettings, *, use_cache: bool = True, expected_fingerprint: str | None = None
) -> Endpoint:
    """What the flags say. Nobody has been asked and nothing loaded but a tokenizer.

    Args:
        settings: the flags.
        use_cache: whether a reward may be one that the server computed before. Only the native wire
            can say that it may not.
        expected_fingerprint: the model that the server must have, where the wire tells.

    Raises:
        UserError: naming the flag, its value and the fix.
    """
    if settings.server is None and settings.model_path is None:
        raise BenchmarkError(
            "--server: missing; give the URL of a reward server, or --model-path DIR to load a "
            "model in this process"
        )
    if settings.server is not None and settings.model_path is not None:
        raise BenchmarkError(
            f"--model-path: {settings.model_path} beside --server {settings.server}; give one of "
            "the two"
        )
    if settings.model_path is not None:
        return _open_local(settings, settings.model_path)
    assert settings.server is not None
    refuse(settings, IN_PROCESS, "is for --model-path; the server has its own")
    options = replace(
        _options(settings), use_cache=use_cache, expected_fingerprint=expected_fingerprint
    )
    if settings.wire == "native":
        return _open_native(settings, settings.server, options)
    return _open_foreign(settings, settings.server, settings.wire, options)


def _open_local(settings: EndpointSettings, folder: Path) -> LocalEndpoint:
    refuse(settings, OF_A_SERVER, "is for --server")
    if not folder.is_dir():
        raise BenchmarkError(f"--model-path: {folder} is no folder; give that of a reward model")
    spec = TransformerSpec(
        model=str(folder),
        dtype=settings.dtype,
        deterministic=settings.deterministic,
        max_length=settings.max_length,
        max_batch_tokens=settings.max_batch_tokens,
    )
    return LocalEndpoint(folder, spec, on_overflow=settings.on_overflow)


def _open_native(settings: EndpointSettings, server: str, options: ClientOptions) -> NativeEndpoint:
    refuse(settings, ("tokenizer",), "is for wires of rendered texts; the native one has none")
    return NativeEndpoint(server, options)


def _open_foreign(
    settings: EndpointSettings, server: str, name: WireName, options: ClientOptions
) -> ForeignEndpoint:
    wire = WIRES[name]
    if settings.on_overflow == "truncate":
        raise BenchmarkError(
            f"--on-overflow: truncate, which the wire {name} cannot say without the risk that the "
            "end is cut, where rewards are read; give error"
        )
    if not wire.needs_tokenizer:
        refuse(settings, ("tokenizer",), f"is for wires of rendered texts, and {name} is none")
    elif settings.tokenizer is None:
        raise BenchmarkError(
            f"--tokenizer: missing; the wire {name} carries rendered texts, so give the folder of "
            "the reward model's tokenizer"
        )
    renderer = None if settings.tokenizer is None else ChatText.load(settings.tokenizer)
    asking = Asking(wire, settings.model, renderer)
    return ForeignEndpoint(server, asking, options)


def _options(settings: EndpointSettings) -> ClientOptions:
    return ClientOptions(
        model=settings.model or "default",
        on_overflow=settings.on_overflow,
        groups_per_request=settings.groups_per_request,
        concurrency=settings.concurrency,
        retry=replace(PATIENCE, budget_seconds=settings.retry_seconds),
        api_key=read_key(settings.api_key_env),
        lane="bulk",
    )


def refuse(settings: EndpointSettings, fields: Iterable[str], reason: str) -> None:
    """Refuses flags that would do nothing: whoever gave one believes that it does.

    Raises:
        BenchmarkError: naming the first of them.
    """
    for field in fields:
        if field in settings.model_fields_set and getattr(settings, field) is not None:
            flag = f"--{field.replace('_', '-')}"
            raise BenchmarkError(f"{flag}: {getattr(settings, field)}; {reason}: leave it out")
