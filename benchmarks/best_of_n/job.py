"""``medpref bench best-of-n``: everything put together, from the questions to the page.

Progress goes to standard error, the tables to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.best_of_n.of_suites import MODE, SuiteSamples
from benchmarks.best_of_n.of_world import WorldSamples
from benchmarks.best_of_n.options import OF_A_WORLD, OF_SUITES, BestOfNConfig
from benchmarks.best_of_n.report import tables
from benchmarks.best_of_n.results import BestOfNResults
from benchmarks.best_of_n.rewards import REWARDS, read_rewards, score_all
from benchmarks.best_of_n.samples import OnProgress, Source
from benchmarks.best_of_n.summary import Evaluation, collect, summarise
from benchmarks.endpoints.base import Description, Endpoint
from benchmarks.endpoints.open import open_endpoint
from benchmarks.errors import BenchmarkError, EvaluationFailed
from benchmarks.output import make_output
from benchmarks.qa.options import QaConfig
from benchmarks.qa.run import check_server
from benchmarks.results import RESULTS, write_results
from benchmarks.tables import to_markdown, to_rich
from corpora.questions.registry import FORMATS
from foundation.journal import Journal, Pin, writing
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from foundation.settings import check
from foundation.versions import versions
from policy.client import AsyncPolicyClient

TABLE, PAGE = "table.md", "report.html"

LEAST_WIDTH = 110
"""Columns that the tables need, also where there is no terminal."""

SHARED = {
    *("version", "samples", "temperature", "top_p", "max_tokens", "form", "split", "ids"),
    *("limit", "skip_bad", "seed"),
}
"""Settings that the question suites call by the same name."""

EXAMPLES = """  {prog} --policy http://127.0.0.1:8000 --version r3 --server http://127.0.0.1:8100 \\
      --suite med_mcqa=dev.json:mirage --suite pubmed_qa=ori_pqal.json
  {prog} --policy http://127.0.0.1:8000 --version r3 --server http://127.0.0.1:8100 \\
      --world clinic --questions 200 --samples 16
  {prog} --policy http://127.0.0.1:8000 --model-path runs/quickstart-1/reward_model \\
      --suite med_qa=test.jsonl --samples 10 --samples-folder evaluations/medical-qa/base

layouts: {formats}
Call suites med_qa, med_mcqa and pubmed_qa to have them weigh as in UltraMedical's table."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of a job."""

    results: BestOfNResults
    folder: Path
    failures: tuple[str, ...]
    """What ended sampling or scoring before it was done."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench best-of-n") -> int:
    """Samples, scores, writes and prints; returns 0.

    Raises:
        UserError: if what was asked for cannot be begun.
        EvaluationFailed: if a server went away; the results so far are written before.
    """
    given = _parser(prog).parse_args(arguments)
    config = read_settings(BestOfNConfig, given)
    with Reporter(stream=sys.stderr) as reporter:
        done = asyncio.run(evaluate(config, given.suites, reporter.progress))
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in tables(done.results):
        console.print(to_rich(table))
    console.print(f"{done.folder / RESULTS}", markup=False)
    if done.failures:
        raise EvaluationFailed(
            f"{done.failures[0]}; what is done is in {done.folder}: the same command goes on"
        )
    return 0


async def evaluate(
    config: BestOfNConfig,
    suites: Sequence[str],
    on_progress: OnProgress,
    *,
    endpoint: Endpoint | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Evaluated:
    """Has open questions answered and open answers scored, and writes the results.

    Args:
        config: what is asked for.
        suites: as NAME=SOURCE or NAME=SOURCE:FORMAT; none where there is a world.
        on_progress: told how far answers and rewards are.
        endpoint: another reward model than that of the flags, for tests.
        transport: another way to the policy, for tests.
    """
    source = open_source(config, suites)
    async with AsyncExitStack() as stack:
        endpoint = endpoint or open_endpoint(config)
        stack.push_async_callback(endpoint.aclose)
        policy = await stack.enter_async_context(_policy(config, transport))
        await check_server(policy, config.version, flag="--policy", max_tokens=config.max_tokens)
        rewards = await endpoint.describe()
        folder = config.folder_of(rewards.model, rewards.fingerprint)
        make_output(folder)
        with Journal(folder / REWARDS, _pins(config, rewards), restart=config.restart) as journal:
            failures = (
                await source.draw(policy, on_progress),
                await score_all(endpoint, source.drawn, journal, on_progress),
            )
    results = summarise(
        Evaluation(
            model=config.version,
            about=source.about,
            rewards=rewards,
            samples=config.samples,
            seed=config.seed,
            vote_temperature=config.vote_temperature,
            collected=collect(source.drawn(), read_rewards(folder / REWARDS)),
            greedy=source.greedy(),
            settings=_settings(config, source, rewards),
            failures=tuple(filter(None, failures)),
        )
    )
    write_files(results, folder)
    return Evaluated(results, folder, tuple(filter(None, failures)))


def _policy(config: BestOfNConfig, transport: httpx.AsyncBaseTransport | None) -> AsyncPolicyClient:
    return AsyncPolicyClient(
        config.policy,
        retry_budget_seconds=config.policy_retry_seconds,
        max_connections=config.policy_concurrency,
        transport=transport,
    )


def open_source(config: BestOfNConfig, suites: Sequence[str]) -> Source:
    """Where the questions are from.

    Raises:
        UserError: if there is not one kind of them, or a suite or world cannot be read.
    """
    folder = config.folder_of_answers
    if config.world is not None:
        if suites:
            raise BenchmarkError(
                f"--world: {config.world} beside --suite {suites[0]}; give one of the two"
            )
        return WorldSamples(config, folder)
    if not suites:
        raise BenchmarkError("--suite: missing; give NAME=SOURCE, or --world clinic")
    asked = {
        **config.model_dump(include=SHARED),
        "server": config.policy,
        "suites": list(suites),
        "modes": (MODE,),
        "concurrency": config.policy_concurrency,
        "retry_seconds": config.policy_retry_seconds,
        "output": folder,
        "restart": config.forgets_samples,
    }
    return SuiteSamples(check(QaConfig, asked, source="command line"))


def write_files(results: BestOfNResults, folder: Path) -> None:
    """Writes what people and machines read."""
    from benchmarks.best_of_n.page import write_page  # noqa: PLC0415 - loads jinja2

    with writing(folder / RESULTS):
        write_results(folder / RESULTS, results)
    with writing(folder / TABLE):
        markdown = "\n".join(map(to_markdown, tables(results)))
        (folder / TABLE).write_text(markdown, encoding="utf-8")
    write_page(folder / PAGE, results)


def _pins(config: BestOfNConfig, rewards: Description) -> dict[str, Pin]:
    """What decides the rewards of a group of texts."""
    return {
        "model": rewards.model,
        "fingerprint": rewards.fingerprint,
        "wire": config.wire if config.server else "in process",
        "on_overflow": config.on_overflow,
    }


def _settings(config: BestOfNConfig, source: Source, rewards: Description) -> dict[str, Any]:
    without = {"output", "restart", *(OF_A_WORLD if config.world is None else OF_SUITES)}
    return {
        **config.model_dump(mode="json", exclude_none=True, exclude=without),
        **source.about.settings,
        "kind": rewards.kind,
        "software": dict(rewards.software),
        "versions": versions("medpref"),
    }


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Choose one of N answers of a deployed policy by reward, by vote and by chance, on the\n"
        "same answers. A question that fails is an error, never a wrong answer.",
        examples=EXAMPLES.format(prog=prog, formats=", ".join(FORMATS)),
    )
    parser.add_argument(
        "--suite",
        dest="suites",
        action="append",
        default=[],
        metavar="NAME=SOURCE[:FORMAT]",
        help="questions: a file, a folder or a hub name; once for each suite",
    )
    add_settings(parser, BestOfNConfig)
    return parser
