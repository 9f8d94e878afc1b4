"""The cluster: Ray places vLLM, the reward server and the trainer, each a process of its own.

The actors hold processes and warm trainers, never decisions. They ask for no CPU of Ray's count:
with two cores they would wait for each other for ever. When the driver dies, however it dies, Ray
ends the actors and each takes its server down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self

import ray
from ray.exceptions import RayActorError, RayTaskError

from foundation.errors import JobError, UserError
from foundation.process import ChildProcess, free_port
from foundation.progress import TrainingProgress
from loop.config import ClusterConfig, RewardConfig, is_local
from policy.config import PolicyEngineConfig, PolicyServerConfig
from policy.server import PolicyServer

OnProgress = Callable[[TrainingProgress], None]
Job = Literal["make_base_policy", "make_reward_model", "train_round"]
ENDED = "ended"

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""Of Ray's shared memory, which here holds only progress; its default is 30 % of the RAM."""

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_worker_niceness": "0",  # 15 by default: servers and trainer are what this run is about
}

THREADS = {
    "OMP_NUM_THREADS": str(os.cpu_count()),  # Ray's own default is one
    "OMP_WAIT_POLICY": "PASSIVE",  # trainer and servers share the cores: waiting must not burn them
}

REWARD_SERVER_READY_SECONDS = 300


class Cluster:
    """A started or joined Ray cluster. Use as an asynchronous context manager."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config

    async def __aenter__(self) -> Self:
        handler = signal.getsignal(signal.SIGTERM)
        await asyncio.to_thread(self._join)
        signal.signal(signal.SIGTERM, handler)  # Ray puts one of its own, which only aborts
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(ray.shutdown)

    def _join(self) -> None:
        for variable, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        started: dict[str, Any] = {
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        try:
            ray.init(
                address=self._config.ray_address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                **({} if self._config.ray_address else started),
            )
        except ConnectionError as error:
            address = self._config.ray_address
            raise UserError(f"cluster.ray_address: {address!r}: no Ray cluster there") from error

    def policy_service(self, *, gpus: float) -> Service:
        return Service(_place(PolicyHost, gpus))

    def reward_service(self, *, gpus: float) -> Service:
        return Service(_place(RewardHost, gpus))

    def trainer(self) -> Trainer:
        return Trainer(_place(TrainerHost, self._config.trainer_gpus))


class Service:
    """A server in an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def start(self, *arguments: Any) -> str:
        """Starts the server and returns its URL once it is ready."""
        return str(await _result(self._actor.start.remote(*arguments)))

    async def stop(self) -> None:
        """Drains and stops the server."""
        await _result(self._actor.stop.remote())


class Trainer:
    """The warm trainer: trl and the base policy are loaded once for all rounds."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def run(self, job: Job, *arguments: Any, on_progress: OnProgress) -> dict[str, Any]:
        """Runs ``loop.models.<job>(*arguments)`` in the trainer's process.

        Raises:
            UserError, JobError: what the job raised.
        """
        try:
            async for reference in self._actor.run.remote(job, arguments):
                item = await reference
                if isinstance(item, dict):
                    return item
                on_progress(item)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayActorError as error:
            raise JobError(f"the trainer's process died: {error}") from error
        raise JobError(f"the trainer ended {job} without a result")


@ray.remote
class PolicyHost:
    """Supervises vLLM on the node where Ray placed it."""

    def start(self, model: str, engine: PolicyEngineConfig, log_file: Path) -> str:
        config = PolicyServerConfig(
            model=model, port=free_port(), log_file=log_file, **engine.model_dump()
        )
        self._server = PolicyServer(config)
        self._server.start()
        return self._server.url

    def stop(self) -> None:
        self._server.stop()


@ray.remote
class RewardHost:
    """Holds the reward server's process on the node where Ray placed it."""

    def start(self, model: str, config: RewardConfig, log_file: Path) -> str:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self._process = ChildProcess(reward_command(model, config, port), log_file=log_file)
        self._process.wait_until_ready(f"{url}/health/ready", timeout=REWARD_SERVER_READY_SECONDS)
        return url

    def stop(self) -> None:
        self._process.terminate()


def reward_command(model: str, config: RewardConfig, port: int) -> list[str]:
    """The run's own reward server: on loopback only, so it needs no keys."""
    command = [sys.executable, "-m", "reward_server", "--model", model, "--port", str(port)]
    command += ["--dtype", config.dtype]
    # The run keeps to the fingerprint that it began with, whatever the name stands for later.
    return command if is_local(model) else [*command, "--allow-floating-revision"]


@ray.remote
class TrainerHost:
    """Runs training jobs one after the other in one process and streams their progress."""

    def run(self, job: Job, arguments: tuple[Any, ...]) -> Iterator[object]:
        """Yields the job's progress, then its outcome."""
        from loop import models  # noqa: PLC0415 - torch and trl belong into this process alone

        news: SimpleQueue[object] = SimpleQueue()
        with ThreadPoolExecutor(max_workers=1) as worker:
            outcome = worker.submit(getattr(models, job), *arguments, on_progress=news.put)
            outcome.add_done_callback(lambda _: news.put(ENDED))
            for progress in iter(news.get, ENDED):  # noqa: UP028 - Ray calls send()
                yield progress
        yield outcome.result()


def _place(actor: Any, gpus: float) -> Any:
    options = {"num_cpus": 0, "num_gpus": gpus, "runtime_env": {"env_vars": THREADS}}
    return actor.options(**options).remote()


async def _result(reference: Any) -> Any:
    try:
        return await reference
    except RayTaskError as error:
        raise _cause(error) from error
    except RayActorError as error:
        raise JobError(f"a server's process died: {error}") from error


def _cause(error: RayTaskError) -> BaseException:
    """What the actor raised, as it was raised there."""
    cause = error.cause
    if isinstance(cause, UserError | JobError):
        return cause
    return JobError(f"{type(cause).__name__}: {cause}")
