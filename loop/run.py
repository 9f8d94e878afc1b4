"""A run: what every round needs at hand, and the rule that a finished step is never repeated."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpora.world import Question, World
from foundation.errors import JobError
from loop.collect import Collector, still_open
from loop.groups import ScoredGroup
from loop.ledger import Ledger, StepRecord
from loop.traffic import Traffic
from policy.client import BASE, AsyncPolicyClient, SamplingParameters
from policy.deploy import Deployer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from foundation.reporting import Reporter
    from loop.cluster import Trainer
    from loop.config import Recipe
    from loop.folder import RunFolder

Outcome = dict[str, Any]


async def once(
    ledger: Ledger,
    reporter: Reporter,
    number: int,
    name: str,
    work: Callable[[], Awaitable[Outcome]],
) -> Outcome:
    """The outcome of a step: read if it was finished before, else worked out and written."""
    record = ledger.step(number, name)
    if record is None:
        reporter.event("step.started", round=number, step=name)
        begun = time.monotonic()
        record = StepRecord(await work(), time.monotonic() - begun)
        ledger.finish_step(number, name, record)
        seconds = round(record.seconds, 3)
        reporter.event("step.finished", round=number, step=name, seconds=seconds)
    return record.output


@dataclass(frozen=True, slots=True)
class Services:
    """The running parts, reached over HTTP and Ray."""

    collector: Collector
    deployer: Deployer
    trainer: Trainer
    witness: AsyncPolicyClient
    """A client that never retries: what it sees fail, a user would have seen fail."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a recipe."""

    recipe: Recipe
    folder: RunFolder
    ledger: Ledger
    reporter: Reporter
    world: World
    services: Services
    base_model: str
    """Folder or hub name of the base policy."""

    async def step(
        self, number: int, name: str, work: Callable[[Run, int], Awaitable[Outcome]]
    ) -> Outcome:
        """The outcome of a step of a round."""
        return await once(self.ledger, self.reporter, number, name, lambda: work(self, number))

    @property
    def current_version(self) -> str:
        """The policy version that is served: the last promoted one."""
        return self.promoted_versions()[-1]

    def promoted_versions(self) -> list[str]:
        """The base, then every promoted version in order."""
        rounds = range(1, self.recipe.rounds + 1)
        deployed = (number for number in rounds if self._was_deployed(number))
        return [BASE, *(f"r{number}" for number in deployed)]

    def _was_deployed(self, number: int) -> bool:
        record = self.ledger.step(number, "deploy")
        return record is not None and bool(record.output["promoted"])

    def parameters(self, candidates: int, *, seed: int) -> SamplingParameters:
        sampling = self.recipe.sampling
        return SamplingParameters(
            candidates=candidates,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=seed,
        )

    @property
    def heldout_questions(self) -> Sequence[Question]:
        return self.world.heldout_questions(self.recipe.data.heldout_questions)

    async def answer_round(self, number: int) -> list[ScoredGroup]:
        """The current policy answers the round's questions, scored."""
        questions = self.world.round_questions(number, self.recipe.data.round_questions)
        # Every round draws anew, also where the pool wraps and a question comes again.
        parameters = self.parameters(
            self.recipe.sampling.candidates, seed=self.recipe.seed * 1_000 + number
        )
        task = f"round {number}: sampling and scoring"
        return await self._collect(
            f"round/{number}", questions, self.current_version, parameters, task, has_kl=False
        )

    async def answer_heldout(self, version: str) -> list[ScoredGroup]:
        """A policy answers the held-out questions, with the same seeds as every other policy."""
        parameters = self.parameters(
            self.recipe.sampling.heldout_candidates, seed=self.recipe.seed * 1_000
        )
        return await self._collect(
            f"heldout/{version}",
            self.heldout_questions,
            version,
            parameters,
            f"{version}: held-out questions",
            has_kl=version != BASE,
        )

    async def _collect(
        self,
        phase: str,
        questions: Sequence[Question],
        version: str,
        parameters: SamplingParameters,
        task: str,
        *,
        has_kl: bool,
    ) -> list[ScoredGroup]:
        known = {group.question_id for group in self.ledger.groups(phase)}
        done = len(known)

        def keep(group: ScoredGroup) -> None:
            nonlocal done
            self.ledger.add_group(phase, group)
            done += 1
            self.reporter.progress(task, done, len(questions))

        await self.services.collector.collect(
            still_open(questions, known),
            version=version,
            parameters=parameters,
            keep=keep,
            has_kl=has_kl,
        )
        groups = self.ledger.groups(phase)
        if version == self.current_version:
            self._require_an_answer(phase, groups)
        return groups

    def _require_an_answer(self, phase: str, groups: Sequence[ScoredGroup]) -> None:
        """The served policy is known to answer: when every question fails, something else is wrong.

        Raises:
            JobError: with the first failure; the phase is done anew when the run is resumed.
        """
        failures = [group.failure for group in groups if group.failure is not None]
        if len(failures) == len(groups):
            self.ledger.forget_groups(phase)
            raise JobError(f"{phase}: all {len(groups)} questions failed, as in: {failures[0]}")

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[Traffic]:
        """Real requests on the current version for as long as the context lasts."""
        parameters = self.parameters(1, seed=self.recipe.seed)
        questions = self.heldout_questions
        async with Traffic(
            self.services.witness, questions, parameters, version=self.current_version
        ) as traffic:
            yield traffic
