"""``medpref score``: rewards for a file of records, from a running reward server."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self, TextIO

from pydantic import Field
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from medpref.commands.servers import ModelSettings, meet
from reward_server.bulk import (
    BulkJob,
    BulkProgress,
    CheckedJob,
    OnError,
    check_job,
    score_file,
)
from reward_server.client import AsyncRewardClient, ClientOptions
from reward_server.protocol import Lane, OnOverflow

HEARTBEAT_SECONDS = 10.0
"""Between two lines about the progress where there is no terminal."""


class ScoreSettings(ModelSettings):
    """The flags."""

    on_overflow: OnOverflow = "error"
    """An input that is too long: refuse it, or cut the beginning of its conversation."""

    on_error: OnError = "stop"
    """A group that the server refuses: end the job with exit code 1, or keep its error in place of
    its rewards."""

    limit: int | None = Field(default=None, ge=1)
    """Score only so many records, from the first."""

    groups_per_request: int = Field(default=32, ge=1)
    concurrency: int = Field(default=8, ge=1, le=256)
    """Requests under way together."""

    lane: Lane = "bulk"
    """Bulk work waits for interactive work."""

    expected_fingerprint: str | None = None
    """Fail unless this reward model is served. A job that goes on insists on its own anyway."""


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    parser = _parser()
    given = parser.parse_args(arguments)
    settings = read_settings(ScoreSettings, given)
    job = BulkJob(given.source, given.target, settings.on_error, settings.limit, given.restart)
    options = _client_options(settings)
    checked = check_job(job)
    meet(settings.server, options)
    end = asyncio.run(_score(settings.server, options, checked))
    with Reporter() as reporter:
        reporter.event(
            "file.scored",
            f"{job.target}: {end.total:,} records, {end.errors:,} candidates with an error,"
            f" reward model {end.fingerprint}",
            path=job.target,
            records=end.total,
            resumed=end.resumed,
            tokens=end.tokens,
            errors=end.errors,
            fingerprint=end.fingerprint,
            seconds=round(time.monotonic() - started, 1),
        )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "medpref score",
        "Score a file with a running reward server. What was done survives a kill: start again and"
        "\nit goes on. Records hold messages and candidates, prompt and candidates (or responses),"
        "\nprompt, chosen and rejected, or messages that end with the response.",
        examples="""  medpref score groups.jsonl rewards.jsonl --server http://127.0.0.1:8100
  medpref score pairs.parquet rewards.parquet --server http://127.0.0.1:8100 --on-error keep
  medpref score groups.jsonl rewards.jsonl --server https://rewards --api-key-env REWARDS_KEY""",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="records: *.jsonl or *.parquet")
    parser.add_argument("target", type=Path, metavar="OUT", help="rewards: *.jsonl or *.parquet")
    add_settings(parser, ScoreSettings)
    parser.add_argument(
        "--restart", action="store_true", help="drop what an earlier run left, finished or not"
    )
    return parser


async def _score(url: str, options: ClientOptions, checked: CheckedJob) -> BulkProgress:
    async with AsyncRewardClient(url, options) as client:
        with Meter() as meter:
            return await score_file(client, checked, on_progress=meter.show)


class Meter:
    """How far the job is: a bar on a terminal, elsewhere a JSON line now and then."""

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stdout
        self._clock = clock
        self._started = self._told = clock()
        self._bar = _bar(self._stream) if self._stream.isatty() else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, progress: BulkProgress) -> None:
        """Tells how far it is, if it is time to."""
        if self._bar:
            speed = self._speed(progress)
            rates = f"{speed['groups_per_second']:,.1f} groups/s  "
            rates += f"{speed['tokens_per_second']:,.0f} tokens/s"
            task = self._bar.tasks[0].id
            self._bar.update(task, completed=progress.done, total=progress.total, rates=rates)
        elif self._clock() - self._told >= HEARTBEAT_SECONDS:
            self._told = self._clock()
            line = {
                "time": round(time.time(), 3),
                "event": "file.progressed",
                "done": progress.done,
                "total": progress.total,
                "errors": progress.errors,
                **self._speed(progress),
            }
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()

    def _speed(self, progress: BulkProgress) -> dict[str, float]:
        """What this run did a second, and the seconds that are left at this pace."""
        seconds = max(self._clock() - self._started, 1e-9)
        groups = (progress.done - progress.resumed) / seconds
        speed = {
            "groups_per_second": round(groups, 2),
            "tokens_per_second": round(progress.tokens / seconds, 1),
        }
        if groups:
            speed["seconds_left"] = round((progress.total - progress.done) / groups, 1)
        return speed


def _bar(stream: TextIO) -> Progress:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream, highlight=False),
        transient=True,
    )
    bar.add_task("scoring", total=None, rates="")
    return bar


def _client_options(settings: ScoreSettings) -> ClientOptions:
    return replace(
        settings.client_options(settings.model),
        on_overflow=settings.on_overflow,
        groups_per_request=settings.groups_per_request,
        concurrency=settings.concurrency,
        lane=settings.lane,
        expected_fingerprint=settings.expected_fingerprint,
    )
