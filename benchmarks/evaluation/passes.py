"""One pass: every group of the data is asked under one view, and kept as soon as it has rewards.

A pass goes on where a killed one was. What a group is without rewards is a line too, with its
errors, so lines and groups are one to one. Memory holds what is under way and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from itertools import islice
from pathlib import Path

from benchmarks.endpoints.base import Endpoint
from benchmarks.evaluation.views import Asked
from benchmarks.scored import ScoredGroup
from foundation.journal import Journal, Pin
from reward_server.protocol import ScoreGroup

OnProgress = Callable[[int], None]


Ask = Callable[[Iterable[Asked]], AsyncGenerator[ScoredGroup, None]]
"""Gives the questions' groups with what was answered, in order."""


async def run_pass(
    ask: Ask,
    questions: Iterable[Asked],
    path: Path,
    pins: Mapping[str, Pin],
    *,
    on_progress: OnProgress = lambda done: None,
) -> None:
    """Asks what is not yet in the journal at ``path``.

    Args:
        ask: who is asked, and how: :func:`score`, :func:`score_alone` or a judge's.
        questions: all of the pass, from the first.
        path: the journal.
        pins: what decides its lines.
        on_progress: told how many groups are done, at the start and after each.

    Raises:
        JournalError: if the journal is of another job.
        UserError, JobError: whatever ends the asking; what is done is kept.
    """
    with Journal(path, pins, advice="name another folder with --output") as journal:
        on_progress(journal.count)
        async with aclosing(ask(islice(questions, journal.count, None))) as lines:
            async for line in lines:
                journal.append(line.to_json())
                on_progress(journal.count)


async def score(
    endpoint: Endpoint, questions: Iterable[Asked]
) -> AsyncGenerator[ScoredGroup, None]:
    """Each question's group with the rewards of an endpoint, in order."""
    waiting: deque[Asked] = deque()

    def askable() -> Iterator[ScoreGroup]:
        for asked in questions:
            waiting.append(asked)
            if asked.question is not None:
                yield asked.question

    async with aclosing(endpoint.score(askable())) as stream:
        async for answer in stream:
            while waiting[0].question is None:
                yield waiting.popleft().failed()
            yield waiting.popleft().scored(answer.rewards, answer.errors)
    while waiting:
        yield waiting.popleft().failed()


async def score_alone(
    endpoint: Endpoint, questions: Iterable[Asked]
) -> AsyncGenerator[ScoredGroup, None]:
    """As :func:`score`, each group with nothing else under way."""
    for asked in questions:
        async with aclosing(score(endpoint, [asked])) as one:
            async for scored in one:
                yield scored
