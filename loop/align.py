"""A whole run: models are found or made, servers come up, rounds are played, the end is summed up.

What stands in the ledger is not done again, so resuming is this same function on the same folder:
only the servers start anew, and the promoted adapter is put back.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from corpora.world import World
from corpora.worlds import open_world
from foundation.errors import JobError, UserError
from foundation.reporting import Reporter
from loop.cluster import Cluster
from loop.config import Recipe
from loop.folder import RunFolder, write_whole
from loop.ledger import Ledger
from loop.report import write_report
from loop.rounds import play_round, stage
from loop.run import Outcome, Run
from loop.services import Preparation, check_model, reward_client
from loop.summary import Heldout, RoundSummary, Status, Summary, summarise
from policy.client import BASE, AsyncPolicyClient
from policy.errors import PolicyServerUnreachable


async def preflight(recipe: Recipe) -> World:
    """Checks what can be checked before anything is written: data, model paths, servers.

    Raises:
        UserError: one line about the first thing that cannot be used.
    """
    check_model(recipe.policy.model, "policy.model")
    check_model(recipe.reward.model, "reward.model")
    world = open_world(recipe.data.world, path=recipe.data.path, seed=recipe.seed)
    world.round_questions(1, recipe.data.round_questions)
    world.heldout_questions(recipe.data.heldout_questions)
    world.reward_questions(recipe.data.reward_questions)
    if recipe.policy.url is not None:
        async with AsyncPolicyClient(recipe.policy.url, retry_budget_seconds=0) as policy:
            if BASE not in await policy.versions():
                raise PolicyServerUnreachable(recipe.policy.url, f"no model called {BASE!r} there")
    if recipe.reward.url is not None:
        async with reward_client(recipe, recipe.reward.url, attempts=1) as reward:
            await reward.model()
    return world


async def align(recipe: Recipe, world: World, folder: RunFolder, reporter: Reporter) -> Summary:
    """Plays the rounds of a recipe in its run folder, or those that are left.

    Args:
        recipe: the run, resolved.
        world: from :func:`preflight`.
        folder: from :func:`loop.folder.open_run_folder`.
        reporter: where news goes; also to ``events.jsonl``.

    Raises:
        UserError: if a model, a server or the data cannot be used.
        JobError: if something failed that was rightly asked for.
    """
    with Ledger(folder.path) as ledger:
        reporter.record_to(folder.events)
        book = Book(ledger, recipe, world, folder)
        reporter.event("run.started", f"run folder: {folder.path}", run=recipe.name)
        try:
            async with Cluster(recipe.cluster) as cluster, AsyncExitStack() as stack:
                preparation = Preparation(recipe, folder, ledger, reporter, world, cluster, stack)
                await _play(await preparation.open(), book)
        except BaseException as error:
            book.write(status="failed", error=reason(error))
            raise
        summary = book.write(status="completed")
        reporter.event("run.finished", _closing(summary), **summary.final.model_dump())
    return summary


@dataclass(frozen=True, slots=True)
class Book:
    """Keeps ``summary.json`` and ``report.html`` up to date with the ledger."""

    ledger: Ledger
    recipe: Recipe
    world: World
    folder: RunFolder

    def write(self, *, status: Status, error: str | None = None) -> Summary:
        summary = summarise(self.ledger, self.recipe, self.world, status=status, error=error)
        write_whole(self.folder.summary, summary.model_dump_json(indent=2) + "\n")
        write_report(self.folder)
        return summary


async def _play(run: Run, book: Book) -> None:
    await run.step(0, "baseline", measure_base)
    level = book.write(status="running").baseline
    run.reporter.event(
        "baseline.measured",
        f"base policy: {_numbers(level.proxy_reward, level.gold)}",
        **level.model_dump(),
    )
    if run.current_version != BASE:
        await stage(run, run.current_version)
    for number in range(1, run.recipe.rounds + 1):
        await play_round(run, number)
        played = book.write(status="running").rounds[-1]
        run.reporter.event("round.finished", _sentence(played), **played.model_dump())


async def measure_base(run: Run, _: int) -> Outcome:
    """The base policy answers the held-out questions: what every later version is held against."""
    groups = await run.answer_heldout(BASE)
    return {"prompts": len(groups)}


def reason(error: BaseException) -> str:
    """Why a run ended early, in one line."""
    if isinstance(error, UserError | JobError):
        return str(error)
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return "interrupted"
    words = str(error).splitlines()  # Ray's, when it ends a worker for want of memory, are fifty
    return f"{type(error).__name__}: {words[0]}" if words else type(error).__name__


def _sentence(played: RoundSummary) -> str:
    level = played.heldout
    numbers = f"{_numbers(level.proxy_reward, level.gold)}, " if isinstance(level, Heldout) else ""
    colour = "green" if played.gate.decision == "promoted" else "yellow"
    decision = f"[{colour}]{played.gate.decision}[/{colour}]"
    reason = played.gate.reason.replace("[", "\\[")
    return f"round {played.round}: {numbers}{decision}: {reason}"


def _numbers(proxy: float | None, gold: float | None) -> str:
    shown = {"proxy reward": proxy, "gold": gold}
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)


def _closing(summary: Summary) -> str:
    final, baseline = summary.final, summary.baseline
    parts = [f"served: {final.policy_version}"]
    if final.gold is not None and baseline.gold is not None and final.gold_gain_ci95:
        low, high = final.gold_gain_ci95
        gain = f"gain {final.gold_gain:+.3f} \\[{low:+.3f}, {high:+.3f}]"
        parts.append(f"gold {baseline.gold:.3f} → {final.gold:.3f}, {gain}")
    return ", ".join(parts)
