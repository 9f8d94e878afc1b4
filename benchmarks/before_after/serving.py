"""A policy server with the base and the final policy beside each other, and the proof of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.runs import TrainedRun
from benchmarks.errors import BenchmarkError
from foundation.process import free_port
from policy.client import AsyncPolicyClient
from policy.config import LORA_RANKS, PolicyServerConfig
from policy.deploy import Deployer, Verification, tolerance_for
from policy.protocol import BASE
from policy.server import PolicyServer


@contextmanager
def serving(config: BeforeAfterConfig, run: TrainedRun, log_file: Path) -> Iterator[str]:
    """The URL of a server: the one that was given, or one that lives as long as the context.

    Raises:
        PolicySetupError, ProcessError: if the server cannot be started.
    """
    if config.server is not None:
        yield config.server
        return
    log_file.parent.mkdir(parents=True, exist_ok=True)
    settings = server_settings(run, port=free_port(), log_file=log_file)
    with PolicyServer(settings, adapters={run.version: run.adapter}) as server:
        yield server.url


def server_settings(run: TrainedRun, *, port: int, log_file: Path) -> PolicyServerConfig:
    """The run's own engine, with room for its adapter.

    A run on a server that was there already may have an engine that could not hold what it trained.
    """
    settings = PolicyServerConfig(
        model=run.base, port=port, log_file=log_file, **run.engine.model_dump()
    )
    fitting = min(rank for rank in LORA_RANKS if rank >= run.lora_rank)
    return settings.model_copy(update={"max_lora_rank": max(settings.max_lora_rank, fitting)})


async def check_served(policy: AsyncPolicyClient, run: TrainedRun, *, is_own: bool) -> Verification:
    """Makes sure that both versions are served, and that the final one is the one of the run.

    Args:
        policy: the server.
        run: whose policies it serves.
        is_own: whether it was started with the run's engine; another one may compute in bfloat16.

    Raises:
        BenchmarkError: if nobody answers, or a version is not served.
        DeployRefused: if the version does not give its trainer's log-probabilities.
        PolicySetupError: if the adapter has no canaries.
    """
    if not await policy.ready():
        raise BenchmarkError(
            f"--server: {policy.base_url}: nobody answers; correct the URL, or leave it out to have"
            " a server started"
        )
    served = await policy.versions()
    for version in (BASE, run.version):
        if version not in served:
            known = ", ".join(served) or "none"
            raise BenchmarkError(
                f"--server: {policy.base_url}: {version} is not served; there are: {known}; leave"
                " it out to have a server started"
            )
    tolerance = tolerance_for(run.engine.dtype if is_own else "auto")
    staged = await Deployer(policy, tolerance).stage(run.version, run.adapter)
    return staged.verification
