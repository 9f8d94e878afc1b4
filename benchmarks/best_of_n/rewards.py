"""What a reward model says of samples: kept group by group, gone on with after a kill.

A line is found by the digest of what was asked, so the order of the questions does not matter, and
samples that were drawn again are scored again. A group with an error is asked again next time. A
server that goes away ends the asking, and what has rewards by then is kept.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.best_of_n.samples import Drawn, OnProgress
from benchmarks.endpoints.base import Endpoint
from benchmarks.errors import EvaluationFailed, ScoresError
from foundation.journal import Journal, read_journal
from reward_server.errors import RewardServerError, RewardServerUnreachable
from reward_server.protocol import ScoreGroup

REWARDS = "rewards.jsonl"


@dataclass(frozen=True, slots=True)
class Rewarded:
    """One line: the rewards of a group, along its samples."""

    digest: str
    rewards: tuple[float | None, ...]
    errors: tuple[str | None, ...]
    """``code: detail`` where there is no reward."""

    @property
    def error(self) -> str | None:
        """The first of them, if there is one."""
        return next((error for error in self.errors if error is not None), None)

    def to_json(self) -> str:
        """The line without its end."""
        fields = {"digest": self.digest, "rewards": self.rewards, "errors": self.errors}
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)


async def score_all(
    endpoint: Endpoint,
    questions: Callable[[], Iterable[Drawn]],
    journal: Journal,
    on_progress: OnProgress,
) -> str | None:
    """Scores what has no rewards in the journal; returns what ended it early, if anything did.

    Args:
        endpoint: the reward model.
        questions: gives all of them, each time anew; those without samples are left out.
        journal: pinned to the reward model.
        on_progress: told how many groups have rewards.
    """
    done = {each.digest for each in read_rewards(journal.path).values() if each.error is None}
    open_groups = {each.digest for each in _with_samples(questions())}
    total = len(open_groups)
    open_groups -= done
    count = total - len(open_groups)
    on_progress("rewards", count, total)
    try:
        async with aclosing(_scored(endpoint, questions(), open_groups)) as stream:
            async for line in stream:
                journal.append(line.to_json())
                count += 1
                on_progress("rewards", count, total)
    except (EvaluationFailed, RewardServerError, RewardServerUnreachable) as failure:
        return str(failure)
    journal.sync()
    return None


def read_rewards(path: Path) -> dict[str, Rewarded]:
    """The last line of each group, by its digest; none where nothing was scored.

    Raises:
        ScoresError: naming the line that does not fit.
    """
    if not path.is_file():
        return {}
    found = {}
    for place, fields in enumerate(read_journal(path), start=1):
        try:
            line = Rewarded(fields["digest"], tuple(fields["rewards"]), tuple(fields["errors"]))
        except (LookupError, TypeError):
            raise ScoresError(
                f"{path}:{place}: is no line of rewards; begin anew with --restart"
            ) from None
        found[line.digest] = line
    return found


async def _scored(
    endpoint: Endpoint, questions: Iterable[Drawn], wanted: set[str]
) -> AsyncGenerator[Rewarded, None]:
    waiting: deque[str] = deque()

    def groups() -> Iterator[ScoreGroup]:
        for each in _with_samples(questions):
            if each.digest in wanted:
                wanted.discard(each.digest)  # two questions may be the same to a letter
                waiting.append(each.digest)
                yield ScoreGroup.of(each.digest, each.conversation, each.texts)

    async with aclosing(endpoint.score(groups())) as stream:
        async for answer in stream:
            yield Rewarded(waiting.popleft(), answer.rewards, answer.errors)


def _with_samples(questions: Iterable[Drawn]) -> Iterator[Drawn]:
    return (each for each in questions if each.error is None)
