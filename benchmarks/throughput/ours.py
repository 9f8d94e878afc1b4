"""This server, measured: the only module here that knows its engine, its command and its budget."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.throughput.methods import MethodFailed, Untuned
from benchmarks.throughput.models import BenchModel, device
from benchmarks.throughput.options import DType
from benchmarks.throughput.servers import ServerProcess
from benchmarks.throughput.workloads import Draw, Ids
from foundation.process import free_port
from reward_server.client import AsyncRewardClient, ClientOptions, RetryPolicy
from reward_server.errors import DeviceFailed, Draining, Overloaded
from reward_server.protocol import ScoreGroup
from reward_server.specs import KernelChoice, SequenceClassificationSpec

READY_SECONDS = 600
ANSWER_SECONDS = 600


class Engine(Protocol):
    """What is used of ``reward_server.local``."""

    @property
    def name(self) -> str: ...

    def score_ids(self, inputs: Sequence[Sequence[int]]) -> list[tuple[float, ...]]: ...


def open_engine(
    model: BenchModel,
    *,
    dtype: DType,
    max_batch_tokens: int | None,
    deterministic: bool = False,
    kernels: KernelChoice = "auto",
) -> Engine:
    """The engine in this process, as the server would load it."""
    from reward_server.local import LocalEngine  # noqa: PLC0415 - see job.py

    spec = SequenceClassificationSpec(
        model=str(model.folder or model.name),
        dtype=dtype,
        max_batch_tokens=max_batch_tokens,
        deterministic=deterministic,
        kernels=kernels,
    )
    if model.folder is not None:
        return LocalEngine.load(model.folder, spec)
    return LocalEngine.around(model.build(dtype), spec)


def batch_tokens(max_batch_tokens: int | None) -> int:
    """Tokens of one forward pass of the engine."""
    from reward_server.local import BATCH_TOKENS  # noqa: PLC0415 - see job.py

    return max_batch_tokens or BATCH_TOKENS[device()]


class EngineMethod(Untuned):
    """The engine in process: all inputs in one call, planning and packing included."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.choices = (engine.name,)

    def score(self, draw: Draw) -> list[float]:
        return [labels[0] for labels in self.engine.score_ids(draw.inputs)]

    def score_one(self, ids: Ids) -> float:
        """The reward of one input."""
        return self.engine.score_ids([ids])[0][0]


class RewardServer(ServerProcess):
    """A running ``python -m reward_server``; use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        log_file: Path,
        *,
        dtype: DType,
        threads: int,
        max_batch_tokens: int | None,
    ) -> None:
        port = free_port()
        budget = [] if max_batch_tokens is None else [f"--max-batch-tokens={max_batch_tokens}"]
        super().__init__(
            f"http://127.0.0.1:{port}",
            [
                *(sys.executable, "-m", "reward_server"),
                *(f"--model={folder}", f"--port={port}", f"--dtype={dtype}", *budget),
            ],
            log_file,
            {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
            health="/health/ready",
            ready_seconds=READY_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Requests:
    """How a job is cut: groups of one request, and requests under way together."""

    groups: int
    together: int

    def __str__(self) -> str:
        return f"{self.groups} groups a request, {self.together} at once"


class HttpMethod(Untuned):
    """The server over HTTP, by the project's own client, from text to rewards."""

    cuts = (Requests(1, 16), Requests(4, 8), Requests(16, 4), Requests(64, 2))

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._url = url
        self._runner = runner
        self.choices = [str(cut) for cut in self.cuts]
        self._client = self._connect(self.cuts[0])

    def choose(self, index: int) -> None:
        self.close()
        self._client = self._connect(self.cuts[index])

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._client.aclose())

    def _connect(self, cut: Requests) -> AsyncRewardClient:
        options = ClientOptions(
            groups_per_request=cut.groups,
            concurrency=cut.together,
            answer_seconds=ANSWER_SECONDS,
        )
        return AsyncRewardClient(self._url, options)

    def score(self, draw: Draw) -> list[float]:
        return self._runner.run(self._score(draw))

    async def _score(self, draw: Draw) -> list[float]:
        groups = await self._client.score(draw.groups)
        results = [result for group in groups for result in group.results]
        for result, ids in zip(results, draw.inputs, strict=True):
            if result.tokens != len(ids):
                raise MethodFailed(
                    f"the server read {result.tokens} tokens where the other methods read "
                    f"{len(ids)}: its template or tokenizer is another one"
                )
        return [math.nan if result.reward is None else result.reward for result in results]


class HttpOne:
    """One group after another over HTTP, without retries: what latency is measured with."""

    def __init__(self, url: str) -> None:
        options = ClientOptions(
            groups_per_request=1,
            concurrency=1,
            answer_seconds=ANSWER_SECONDS,
            retry=RetryPolicy(attempts=1),
        )
        self._client = AsyncRewardClient(url, options)

    async def send(self, group: ScoreGroup, ids: Ids) -> bool:
        """Scores a group of one candidate; whether it was answered, not refused."""
        try:
            await self._client.score([group])
        except (DeviceFailed, Draining, Overloaded):
            return False
        return True

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
