"""``medpref bench before-after``: everything put together, from a run folder to the last table.

Progress goes to standard error, the tables to standard output. The folder has ``results.json``,
``table.md``, ``report.html``, the journal of the held-out questions, and below ``suites/`` an
evaluation of each version on each suite, as ``medpref bench qa`` leaves it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.before_after import report
from benchmarks.before_after.comparison import Comparison, prepare
from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.results import BeforeAfterResults
from benchmarks.before_after.serving import serving
from benchmarks.errors import EvaluationFailed
from benchmarks.results import RESULTS
from benchmarks.tables import to_rich
from corpora.questions.registry import FORMATS
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from policy.protocol import BASE

LOG = Path("logs") / "policy-server.log"

LEAST_WIDTH = 124
"""Columns that the tables need, also where there is no terminal."""

EXAMPLES = """  {prog} runs/quickstart-1
  {prog} runs/quickstart-1 --modes likelihood --suite med_mcqa=dev.json:mirage \\
      --general everyday=everyday.json:mirage
  {prog} runs/quickstart-1 --server http://127.0.0.1:8000

layouts: {formats}
Without --general, only the likelihood of the world's known answers can show an alignment tax."""


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "medpref bench before-after"
) -> int:
    """Asks, compares and prints; returns 0.

    Raises:
        UserError: if what was asked for cannot be begun.
        JobError: if the served policy is not the one of the run.
        EvaluationFailed: if the server went away; the results so far are written before.
    """
    options = _parser(prog).parse_args(arguments)
    config = read_settings(BeforeAfterConfig, options)
    comparison = prepare(config, options.run_dir)
    with Reporter(stream=sys.stderr) as reporter:
        _tell(comparison, reporter)
        with serving(config, comparison.asked.run, comparison.folder / LOG) as url:
            results, failure = asyncio.run(comparison.evaluate(url, reporter.progress))
    _show(results)
    sys.stdout.write(f"{comparison.folder / RESULTS}\n")
    if failure is not None:
        raise EvaluationFailed(
            f"{failure}; what was answered is in {comparison.folder}: the same command goes on"
        )
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Evaluate the base and the final policy of a run on the same questions: the run's own\n"
        "world, medical suites, and general ability. Shows gains and losses with intervals.\n"
        "Without --server a policy server with both is started for the job.",
        examples=EXAMPLES.format(prog=prog, formats=", ".join(FORMATS)),
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a run")
    for flag, target, words in (
        ("--suite", "suites", "medical questions"),
        ("--general", "general", "questions of general ability"),
    ):
        parser.add_argument(
            flag,
            dest=target,
            action="append",
            default=argparse.SUPPRESS,
            metavar="NAME=SOURCE[:FORMAT]",
            help=f"{words}: a file, a folder or a hub name; once for each suite",
        )
    add_settings(parser, BeforeAfterConfig)
    return parser


def _tell(comparison: Comparison, reporter: Reporter) -> None:
    asked = comparison.asked
    run, heldout = asked.run, asked.heldout
    questions = [len(heldout.questions), *(suite.size for _, suite in asked.suites)]
    names = ", ".join([heldout.name, *(suite.name for _, suite in asked.suites)])
    reporter.event(
        "run.read",
        f"{run.name}: {run.version} against {BASE}, {sum(questions):,} questions: {names}",
        run=run.name,
        version=run.version,
        questions=sum(questions),
    )
    if comparison.config.server is None:
        reporter.event(
            "policy_server.starting", f"policy server: starting, see {comparison.folder / LOG}"
        )


def _show(results: BeforeAfterResults) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in report.tables(results):
        console.print(to_rich(table))
    console.print(f"{report.title(results)}", markup=False)
    for line in report.lines(results):
        console.print(f"  {line}", markup=False)
    console.print(report.READING, markup=False, style="dim")
