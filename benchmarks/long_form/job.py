"""``medpref bench long-form``: everything put together, from the questions to the tables.

Progress goes to standard error, the tables to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
from rich.console import Console

from benchmarks.chat import ChatClient, ChatFailed
from benchmarks.errors import BenchmarkError, EvaluationFailed
from benchmarks.long_form.answers import (
    Answerer,
    FileAnswers,
    PolicyAnswers,
    digest_of,
    read_answers,
)
from benchmarks.long_form.options import LongFormConfig
from benchmarks.long_form.questions import read_survey
from benchmarks.long_form.report import tables
from benchmarks.long_form.results import LongFormResults
from benchmarks.long_form.run import JUDGED, Judging, judge_all
from benchmarks.long_form.summary import BENCHMARK, summarise
from benchmarks.output import make_output
from benchmarks.published import published
from benchmarks.qa.run import OnProgress, check_server
from benchmarks.results import RESULTS, write_results
from benchmarks.tables import to_markdown, to_rich
from corpora.streams import OnBad, stop_at_bad
from foundation.journal import Pin, writing
from foundation.parsing import Parser, add_settings, read_key, read_settings
from foundation.reporting import Reporter
from policy.client import AsyncPolicyClient
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable
from reward_server.client import PATIENCE

TABLE = "table.md"

FIRST_SECONDS = 10.0
"""What a judge's endpoint may take to answer at all."""

LEAST_WIDTH = 100
"""Columns that the tables need, also where there is no terminal."""

EXAMPLES = """  {prog} questions_w_answers.jsonl --policy http://127.0.0.1:8000 --version r3 \\
      --judge http://127.0.0.1:8001/v1 --judge-model judge
  {prog} questions_w_answers.jsonl --answers results.json \\
      --judge https://api.example.com/v1 --judge-model large --api-key-env JUDGE_KEY

Data are K-QA's answered questions: records of Question, Must_have and Nice_to_have."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench long-form") -> int:
    """Answers, judges and prints; returns 0.

    Raises:
        UserError: if what was asked for cannot be begun.
        EvaluationFailed: if a server went away; the results so far are written before.
    """
    given = _parser(prog).parse_args(arguments)
    config = read_settings(LongFormConfig, given)
    with Reporter(stream=sys.stderr) as reporter:
        results, failure = asyncio.run(evaluate(config, given.data, reporter.progress))
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in tables(results, published(BENCHMARK)):
        console.print(to_rich(table))
    console.print(f"{config.folder / RESULTS}", markup=False)
    if failure is not None:
        raise EvaluationFailed(
            f"{failure}; what was judged is in {config.folder}: the same command goes on"
        )
    return 0


async def evaluate(
    config: LongFormConfig,
    data: str,
    on_progress: OnProgress,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[LongFormResults, str | None]:
    """Judges what is open and writes the results; with them, what ended the judging early.

    Args:
        config: what is asked for.
        data: where the questions are.
        on_progress: told how many questions are judged.
        transport: another way to policy and judge, for tests.
        sleep: another way to pause, for tests.
    """
    survey = read_survey(data, limit=config.limit, skips_bad=config.skip_bad)
    async with AsyncExitStack() as stack:
        answerer, pins = await _open_answers(config, stack, transport, sleep)
        judge = ChatClient(
            config.judge,
            config.judge_model,
            api_key=read_key(config.api_key_env),
            concurrency=config.judge_concurrency,
            retry=replace(PATIENCE, budget_seconds=config.retry_seconds),
            transport=transport,
            sleep=sleep,
        )
        await stack.enter_async_context(judge)
        await meet_judge(config.judge, transport)
        make_output(config.folder)
        judging = Judging(answerer, judge, config.judge_tokens, config.concurrency)
        failure = None
        try:
            await judge_all(
                judging,
                survey.stream(),
                config.folder / JUDGED,
                {"questions": survey.digest, **pins, **_judge_pins(config)},
                restart=config.restart,
                on_progress=lambda done: on_progress("judged", min(done, survey.size), survey.size),
            )
        except (ChatFailed, PolicyServerUnreachable, PolicyRequestFailed) as error:
            failure = str(error)
    results = summarise(config, survey, pins, failure=failure)
    write_files(results, config)
    return results, failure


async def meet_judge(url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """Makes sure that somebody answers at the judge's endpoint, whatever it says.

    Raises:
        BenchmarkError: if nobody does.
    """
    async with httpx.AsyncClient(transport=transport, timeout=FIRST_SECONDS) as http:
        try:
            await http.get(url.rstrip("/") + "/models")
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise BenchmarkError(
                f"--judge: {url}: nobody answers ({reason}); start it or correct the URL"
            ) from None


def write_files(results: LongFormResults, config: LongFormConfig) -> None:
    """Writes what people and machines read."""
    with writing(config.folder / RESULTS):
        write_results(config.folder / RESULTS, results)
    with writing(config.folder / TABLE):
        markdown = "\n".join(map(to_markdown, tables(results, published(BENCHMARK))))
        (config.folder / TABLE).write_text(markdown, encoding="utf-8")


async def _open_answers(
    config: LongFormConfig,
    stack: AsyncExitStack,
    transport: httpx.AsyncBaseTransport | None,
    sleep: Callable[[float], Awaitable[None]],
) -> tuple[Answerer, Mapping[str, Pin]]:
    """Who answers, and what decides the answers."""
    if config.answers is not None:
        on_bad: OnBad = (lambda error: None) if config.skip_bad else stop_at_bad
        answers = read_answers(config.answers, on_bad=on_bad)
        return FileAnswers(answers), {"answers": digest_of(answers)}
    assert config.policy is not None, "checked by the config"
    policy = AsyncPolicyClient(
        config.policy,
        retry_budget_seconds=config.retry_seconds,
        transport=transport,
        sleep=sleep,
    )
    await stack.enter_async_context(policy)
    await check_server(policy, config.version, flag="--policy", max_tokens=config.max_tokens)
    answerer = PolicyAnswers(policy, config.version, max_tokens=config.max_tokens)
    return answerer, {
        "version": config.version,
        "origin": (await policy.models()).origin(config.version),
        "max_tokens": config.max_tokens,
    }


def _judge_pins(config: LongFormConfig) -> dict[str, Pin]:
    return {"judge": config.judge_model, "judge_tokens": config.judge_tokens}


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Have a judge hold long answers to the statements that physicians expect in them: K-QA's\n"
        "completeness and hallucination. A missing verdict is an error, never a score.",
        examples=EXAMPLES.format(prog=prog),
    )
    parser.add_argument("data", metavar="DATA", help="file, folder or hub name of the questions")
    add_settings(parser, LongFormConfig)
    return parser
