"""An evaluation from its data to scored groups: one pass for each view, kept as it goes.

Whatever ends a pass half-way is a reason why the results are partial, not a reason to have none:
what was scored is kept, told and gone on with next time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.chat import ChatClient, ChatFailed
from benchmarks.endpoints.base import Description
from benchmarks.endpoints.open import IN_PROCESS, open_endpoint, refuse
from benchmarks.errors import EvaluationFailed
from benchmarks.evaluation.data import Data, Survey
from benchmarks.evaluation.judging import Judge, judge
from benchmarks.evaluation.options import EvaluationConfig
from benchmarks.evaluation.passes import Ask, run_pass, score, score_alone
from benchmarks.evaluation.views import View, ask, view_size
from benchmarks.scored import ScoredGroup
from benchmarks.stored_scores import SCORES, read_scores
from foundation.journal import Pin
from foundation.parsing import read_key
from reward_server.client import PATIENCE
from reward_server.errors import RewardServerError, RewardServerUnreachable

FAILURES = (EvaluationFailed, ChatFailed, RewardServerError, RewardServerUnreachable)
"""What an endpoint may end a pass with."""

OF_REWARDS = ("wire", "tokenizer", "groups_per_request", "on_overflow")
"""Flags of a server that a judge is not asked with."""


class OnProgress(Protocol):
    """Is told how far a pass is."""

    def __call__(self, task: str, done: int, total: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Asking:
    """Who answers, and by which function each view is asked."""

    description: Description
    views: Mapping[View, Ask]
    """In the order in which they are asked; ``as_asked`` first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the passes."""

    views: dict[View, list[ScoredGroup]]
    failure: str | None = None
    """What ended them before they were done."""


@asynccontextmanager
async def open_asking(config: EvaluationConfig) -> AsyncGenerator[Asking, None]:
    """Meets whoever gives the rewards, and takes leave at the end.

    Raises:
        UserError: if a flag does not fit, or nobody answers.
    """
    async with AsyncExitStack() as stack:
        if config.judge is not None:
            yield await _open_judge(config, config.judge, stack)
            return
        endpoint = open_endpoint(config)
        stack.push_async_callback(endpoint.aclose)
        description = await endpoint.describe()
        fresh = endpoint
        if config.server:
            known = description.fingerprint
            fresh = open_endpoint(config, use_cache=False, expected_fingerprint=known)
            stack.push_async_callback(fresh.aclose)
        views: dict[View, Ask] = {"as_asked": partial(score, endpoint)}
        for name in config.controls:
            if name == "batch_composition":
                views[name] = partial(score_alone, fresh)
            elif name != "swapped_order" or description.sees_rivals:
                views[name] = partial(score, endpoint)
        yield Asking(description, views)


async def _open_judge(config: EvaluationConfig, url: str, stack: AsyncExitStack) -> Asking:
    assert config.model is not None, "checked by the config"
    refuse(config, (*OF_REWARDS, *IN_PROCESS), "is for a reward model, and a judge is asked")
    chat = ChatClient(
        url,
        config.model,
        api_key=read_key(config.api_key_env),
        concurrency=config.concurrency,
        retry=replace(PATIENCE, budget_seconds=config.retry_seconds),
    )
    await stack.enter_async_context(chat)
    asking = partial(
        judge,
        Judge(chat, config.judge_mode, max_tokens=config.judge_tokens, window=config.concurrency),
    )
    views: dict[View, Ask] = {"as_asked": asking}
    views |= {name: asking for name in config.controls if name != "batch_composition"}
    return Asking(Description(model=config.model, kind="judge", sees_rivals=True), views)


async def run_passes(
    asking: Asking,
    data: Data,
    survey: Survey,
    folder: Path,
    *,
    pins: Mapping[str, Pin],
    on_progress: OnProgress,
) -> Outcome:
    """Asks every view about every group.

    Args:
        asking: who is asked.
        data: the groups.
        survey: of the data.
        folder: where the journals are.
        pins: what decides all of them.
        on_progress: told of each pass.

    Raises:
        JournalError: if a journal is of another job.
        CorpusError: if the data cannot be read again.
    """
    failure = None
    for view, how in asking.views.items():
        total = view_size(view, survey.groups)
        path = journal_of(folder, view)
        path.parent.mkdir(parents=True, exist_ok=True)
        questions = ask(data.stream(), view, total=survey.groups)
        try:
            await run_pass(
                how,
                questions,
                path,
                {**pins, "view": view},
                on_progress=partial(_told, on_progress, view.replace("_", " "), total),
            )
        except FAILURES as error:
            failure = str(error)
            break
    kept = {view: list(read_back(journal_of(folder, view))) for view in asking.views}
    return Outcome({v: groups for v, groups in kept.items() if groups or v == "as_asked"}, failure)


def _told(on_progress: OnProgress, task: str, total: int, done: int) -> None:
    on_progress(task, done, total)


def read_back(path: Path) -> Iterable[ScoredGroup]:
    """The groups of a journal; none where a pass was not begun."""
    return read_scores(path) if path.is_file() and path.stat().st_size else ()


def journal_of(folder: Path, view: View) -> Path:
    """Where the lines of a view are."""
    return folder / SCORES if view == "as_asked" else folder / "controls" / f"{view}.jsonl"
