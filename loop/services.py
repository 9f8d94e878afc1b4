"""Models and servers of a run: found, made, started, and stopped again in reverse.

The reward model trains while vLLM starts, unless its pairs need the base policy's own answers.
A recipe that names a URL finds its server there instead of starting one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from corpora.world import World
from foundation.errors import UserError
from foundation.progress import TrainingProgress
from foundation.reporting import Reporter
from loop.cluster import Cluster, OnProgress, Trainer
from loop.collect import Collector, sample_texts
from loop.config import Recipe, is_local
from loop.errors import RunError, first_failure
from loop.folder import RunFolder, copy_folder
from loop.ledger import Ledger
from loop.run import Outcome, Run, Services, once
from policy.client import BASE, AsyncPolicyClient, SamplingParameters
from policy.deploy import Deployer, tolerance_for
from reward_server.client import AsyncRewardClient, ClientOptions, RetryPolicy


@dataclass(frozen=True, slots=True)
class Preparation:
    """Brings up everything that rounds need. What it opens is closed with ``stack``."""

    recipe: Recipe
    folder: RunFolder
    ledger: Ledger
    reporter: Reporter
    world: World
    cluster: Cluster
    stack: AsyncExitStack

    async def open(self) -> Run:
        """A run that is ready for its rounds.

        Raises:
            UserError: if a model, a server or the data cannot be used.
            RunError: if the reward model is not the one this run began with.
        """
        trainer = self.cluster.trainer()
        base = await self._base_policy(trainer)
        try:
            async with asyncio.TaskGroup() as tasks:
                policy = tasks.create_task(self._policy_server(base))
                reward = tasks.create_task(self._reward_server(base, trainer, policy))
        except* Exception as failures:
            raise first_failure(failures) from failures
        services = await self._services(trainer, policy.result(), reward.result())
        return Run(
            recipe=self.recipe,
            folder=self.folder,
            ledger=self.ledger,
            reporter=self.reporter,
            world=self.world,
            services=services,
            base_model=base,
        )

    async def _base_policy(self, trainer: Trainer) -> str:
        home = self.folder.policy(BASE)
        given = self.recipe.policy.model
        if given is not None:
            return _link(given, home)

        async def make() -> Outcome:
            made = await trainer.run(
                "make_base_policy", self.recipe, on_progress=self._bar("base policy: training")
            )
            copy_folder(Path(made["path"]), home)
            return made

        made = await once(self.ledger, self.reporter, 0, "base_policy", make)
        origin = "found in the cache" if made["cached"] else f"trained in {made['seconds']:.0f} s"
        self.reporter.event("base_policy.prepared", f"base policy: {origin}", **made)
        return str(home)

    async def _policy_server(self, base: str) -> str:
        url = self.recipe.policy.url
        if url is None:
            service = self.cluster.policy_service(gpus=self.recipe.policy.gpus)
            self.stack.push_async_callback(service.stop)
            log_file = self.folder.logs / "policy-server.log"
            url = await service.start(base, self.recipe.policy.engine, log_file)
        self.reporter.event("policy_server.started", f"policy server: {url}", url=url)
        return url

    async def _reward_server(self, base: str, trainer: Trainer, policy: Awaitable[str]) -> str:
        url = self.recipe.reward.url
        if url is None:
            model = await self._reward_model(base, trainer, policy)
            service = self.cluster.reward_service(gpus=self.recipe.reward.gpus)
            self.stack.push_async_callback(service.stop)
            log_file = self.folder.logs / "reward-server.log"
            url = await service.start(model, self.recipe.reward, log_file)
        self.reporter.event("reward_server.started", f"reward server: {url}", url=url)
        return url

    async def _reward_model(self, base: str, trainer: Trainer, policy: Awaitable[str]) -> str:
        home = self.folder.reward_model
        given = self.recipe.reward.model
        if given is not None:
            return _link(given, home)

        async def make() -> Outcome:
            samples = await self._samples(policy)
            bar = self._bar("reward model: training")
            made = await trainer.run(
                "make_reward_model", self.recipe, base, samples, on_progress=bar
            )
            copy_folder(Path(made["path"]), home)
            return made

        made = await once(self.ledger, self.reporter, 0, "reward_model", make)
        origin = "found in the cache" if made["cached"] else f"trained in {made['seconds']:.0f} s"
        self.reporter.event(
            "reward_model.prepared",
            f"reward model: {origin}, held-out accuracy {made['heldout_accuracy']:.3f}"
            f" (longer answer wins: {made['length_only_accuracy']:.3f})",
            **made,
        )
        return str(home)

    async def _samples(self, policy: Awaitable[str]) -> dict[str, list[str]]:
        """The base policy's answers to the world's reward questions, where it asks for them."""
        if not self.world.reward_questions(self.recipe.data.reward_questions):
            return {}
        return await sample_reward_questions(self.recipe, self.world, await policy)

    async def _services(self, trainer: Trainer, policy_url: str, reward_url: str) -> Services:
        enter = self.stack.enter_async_context
        policy = await enter(AsyncPolicyClient(policy_url))
        witness = await enter(AsyncPolicyClient(policy_url, retry_budget_seconds=0))
        reward = await enter(reward_client(self.recipe, reward_url))
        collector = Collector(
            policy=policy,
            reward=reward,
            fingerprint=self._remember((await reward.model()).fingerprint),
            window=self.recipe.sampling.window,
        )
        tolerance = tolerance_for(self.recipe.policy.engine.dtype)
        return Services(collector, Deployer(policy, tolerance), trainer, witness)

    def _remember(self, fingerprint: str) -> str:
        before = self.ledger.fact("fingerprint")
        if before is not None and before != fingerprint:
            raise RunError(
                f"reward model: fingerprint {fingerprint} is not {before}, with which this run"
                " began; serve that model again or start a new run"
            )
        self.ledger.set_fact("fingerprint", fingerprint)
        return fingerprint

    def _bar(self, task: str) -> OnProgress:
        def show(progress: TrainingProgress) -> None:
            self.reporter.progress(task, progress.step, progress.total_steps)

        return show


async def sample_reward_questions(
    recipe: Recipe, world: World, policy_url: str
) -> dict[str, list[str]]:
    """One answer of the base policy to each of the world's reward questions, by question id."""
    sampling = recipe.sampling
    parameters = SamplingParameters(
        candidates=1,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=recipe.seed,
    )
    questions = world.reward_questions(recipe.data.reward_questions)
    async with AsyncPolicyClient(policy_url) as client:
        return await sample_texts(
            client, questions, parameters=parameters, window=sampling.window * sampling.candidates
        )


def reward_client(recipe: Recipe, url: str, *, attempts: int = 8) -> AsyncRewardClient:
    """A client of the recipe's reward model.

    Raises:
        UserError: if the recipe names a variable for the server's key that is not set.
    """
    options = ClientOptions(
        model=recipe.reward.served_name,
        retry=RetryPolicy(attempts=attempts),
        api_key=_api_key(recipe.reward.api_key_env),
    )
    return AsyncRewardClient(url, options)


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"reward.api_key_env: {variable!r} is not set; export the reward server's key under it"
        )
    return key


def check_model(model: str | None, field: str) -> None:
    """Refuses a path without a model.

    Raises:
        UserError: naming the field, the path and the fix.
    """
    if model is None or not is_local(model):
        return
    if not (Path(model).expanduser() / "config.json").is_file():
        raise UserError(f"{field}: {model!r}: no model there (no config.json); correct the path")


def _link(model: str, home: Path) -> str:
    """The model itself; a local one also stands in the run folder, as a link."""
    if not is_local(model):
        return model
    path = Path(model).expanduser().resolve()
    if not home.is_symlink():
        home.symlink_to(path, target_is_directory=True)
    return str(path)
