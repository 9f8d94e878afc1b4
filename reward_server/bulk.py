"""Scores a file of any length into another one, and goes on after a kill where it was.

The whole input is checked before anything is sent. Finished groups are kept as they come; a job
goes on only with the input, the reward model and the settings that it began with. What a record is
is in ``bulk_records``, how the output survives a kill in ``bulk_output``.

Memory holds what is under way and nothing else. Knows nothing of terminals and command lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from corpora.errors import CorpusError
from corpora.streams import file_sha256
from foundation.errors import JobError
from reward_server.bulk_output import Line, Partial, Pins
from reward_server.bulk_records import SUFFIXES, BulkError, Item, read_items
from reward_server.client import AsyncRewardClient, StreamedGroup
from reward_server.errors import FingerprintMismatch, RewardServerError
from reward_server.protocol import CandidateResult, ItemError, ScoreGroup

OnError = Literal["stop", "keep"]

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class BulkJob:
    """What to score, and where to."""

    source: Path
    target: Path
    on_error: OnError = "stop"
    """At a group that the server refuses: end the job, or write the error in place of the rewards
    and go on."""

    limit: int | None = None
    """Only so many records, from the first."""

    restart: bool = False
    """Whether what an earlier run left, finished or not, may go."""


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """A job whose records can all be scored."""

    job: BulkJob
    records: int
    digest: str
    """Of the bytes of the input: sha256 in hex."""


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a job is; a group is a record."""

    done: int
    total: int
    resumed: int
    """Groups of ``done`` that an earlier run finished."""

    fingerprint: str
    tokens: int = 0
    """Tokens that this run scored."""

    errors: int = 0
    """Candidates of this run that have an error in place of a reward."""

    def after(self, line: Line) -> BulkProgress:
        """One group further."""
        return replace(
            self,
            done=self.done + 1,
            tokens=self.tokens + sum(tokens or 0 for tokens in line.tokens),
            errors=self.errors + sum(error is not None for error in line.errors),
        )


def check_job(job: BulkJob) -> CheckedJob:
    """Reads the whole input and writes nothing.

    Raises:
        BulkError: if a file is in the way or of an unknown kind, or has no folder.
        CorpusError: naming the file that cannot be read, or file, line and field of the first
            record that cannot be scored.
    """
    for name, path in (("IN", job.source), ("OUT", job.target)):
        if path.suffix not in SUFFIXES:
            raise BulkError(f"{name}: {path}: name a file that ends in {' or '.join(SUFFIXES)}")
    if not os.access(job.target.parent, os.W_OK | os.X_OK):
        raise BulkError(f"OUT: {job.target.parent}: no folder to write to; name another one")
    if job.target.exists() and (not job.restart or job.target.samefile(job.source)):
        raise BulkError(f"OUT: {job.target}: exists already; name another file or add --restart")
    records = sum(1 for _ in read_items(job.source, job.limit))
    if not records:
        raise CorpusError(f"IN: {job.source}: no records; give a file with at least one")
    return CheckedJob(job, records, file_sha256(job.source))


async def score_file(
    client: AsyncRewardClient,
    checked: CheckedJob,
    *,
    on_progress: Callable[[BulkProgress], None] = lambda progress: None,
) -> BulkProgress:
    """Scores every record of a job, from where an earlier run of it was.

    Args:
        client: its options say which model, how many requests of what size, and in which lane.
        checked: the job.
        on_progress: called at the start and after each group whose line is written.

    Returns:
        Where it ended: ``done`` is ``total``.

    Raises:
        JournalError: if an earlier run was another job, or another process is at it.
        FingerprintMismatch: if another model is served than the client expects, or it changed.
        JobError: if the server refuses a group and the job stops at that, or if it fails.
        RewardServerUnreachable: if the server does not answer.
    """
    job, info = checked.job, await client.model()
    if client.pinned not in (None, info.fingerprint):
        raise FingerprintMismatch(
            f"expected_fingerprint: {client.pinned!r}, served is {info.fingerprint!r}"
        )
    pins = Pins(
        input=checked.digest,
        fingerprint=info.fingerprint,
        model=client.options.model,
        on_overflow=client.options.on_overflow,
        limit=job.limit,
    )
    with Partial(job.target, pins, restart=job.restart) as partial:
        progress = BulkProgress(partial.count, checked.records, partial.count, info.fingerprint)
        on_progress(progress)
        items = islice(read_items(job.source, job.limit), partial.count, None)
        async with aclosing(_score(client, items, info.fingerprint)) as scored:
            async for item, group in scored:
                line = to_line(item, group, info.fingerprint, on_error=job.on_error)
                partial.append(line.to_json())
                progress = progress.after(line)
                on_progress(progress)
        partial.finish()
    return progress


async def _score(
    client: AsyncRewardClient, items: Iterator[Item], fingerprint: str
) -> AsyncGenerator[tuple[Item, StreamedGroup], None]:
    """Each item with what became of it, in order."""
    waiting: deque[Item] = deque()

    def groups() -> Iterator[ScoreGroup]:
        for item in items:
            waiting.append(item)
            yield item.group

    stream = client.score_stream(groups(), expected_fingerprint=fingerprint, on_refused="keep")
    async with aclosing(stream) as scored:
        async for group in scored:
            yield waiting.popleft(), group


def to_line(item: Item, scored: StreamedGroup, fingerprint: str, *, on_error: OnError) -> Line:
    """The output record of a group.

    Raises:
        JobError: if the server refused it and ``on_error`` is ``stop``.
    """
    refusal = scored.outcome if isinstance(scored.outcome, RewardServerError) else None
    if refusal and on_error == "stop":
        raise JobError(
            f"{item.record.where}: refused ({refusal.code}): {refusal}; go on with --on-error keep,"
            " which writes the error in place of the rewards"
        )
    results: Sequence[CandidateResult | None]
    results = [None] * len(item.group.candidates) if refusal else scored.result.results
    return Line(
        line=item.record.number,
        id=item.id,
        rewards=_along(results, lambda result: result.reward),
        tokens=_along(results, lambda result: result.tokens),
        truncated_tokens=_along(results, lambda result: result.truncated_tokens),
        errors=[error_text(result.error if result else refusal) for result in results],
        fingerprint=fingerprint,
        model=scored.model,
        parts=_given(_along(results, lambda result: result.parts)),
        disagreement=_given(_along(results, lambda result: result.disagreement)),
        calibrated=_given(_along(results, _calibrated)),
    )


def _along(
    results: Sequence[CandidateResult | None], read: Callable[[CandidateResult], V | None]
) -> list[V | None]:
    return [None if result is None else read(result) for result in results]


def _given(values: list[V | None]) -> list[V | None] | None:
    return None if all(value is None for value in values) else values


def _calibrated(result: CandidateResult) -> dict[str, Any] | None:
    return None if result.calibrated is None else result.calibrated.model_dump()


def error_text(error: ItemError | RewardServerError | None) -> str | None:
    """An error as the output has it: ``code: detail``."""
    if error is None:
        return None
    return f"{error.code}: {error.detail if isinstance(error, ItemError) else error}"
