"""``medpref bench rewardbench`` and its sisters: everything put together.

Progress goes to standard error, tables to standard output. The folder has ``results.json``,
``table.md``, ``report.html``, the journals of every pass and the reference tool's files.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from benchmarks.endpoints.base import Description
from benchmarks.endpoints.open import EndpointSettings, refuse
from benchmarks.errors import BenchmarkError, EvaluationFailed
from benchmarks.evaluation.data import Data, Source, Survey
from benchmarks.evaluation.options import EvaluationConfig
from benchmarks.evaluation.run import Outcome, journal_of, open_asking, read_back, run_passes
from benchmarks.evaluation.summary import Evaluation, summarize
from benchmarks.output import make_output
from benchmarks.published import published
from benchmarks.reference_files import Layout, Subject
from benchmarks.reference_writer import ReferenceFiles
from benchmarks.results import RESULTS, Results, write_results
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import Ties
from benchmarks.stored_scores import read_scores, scores_file
from benchmarks.suites import SUITES, Suite
from benchmarks.tables import tables_of, to_markdown, to_rich
from corpora.rankings.registry import FORMATS, find_format
from foundation.journal import read_pins, writing
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from foundation.versions import versions

OUTPUT = Path("evaluations")
TABLE, PAGE, REFERENCE = "table.md", "report.html", "reference"

OF_ASKING = (*EndpointSettings.model_fields, "prior_sets", "skip_bad", "limit")
"""Flags that mean nothing where nobody is asked."""

LEAST_WIDTH = 100
"""Columns that the tables need, also where there is no terminal."""

LAYOUTS: dict[str, Layout] = {"rewardbench": "rewardbench", "rewardbench2": "rewardbench2"}

EXAMPLES = """  {prog} {data} --server http://127.0.0.1:8100
  {prog} {data} --server http://127.0.0.1:8000 --wire vllm-pooling --model rm
  {prog} {data} --model-path runs/quickstart-1/reward_model --controls none
  {prog} {data} --judge http://127.0.0.1:8000/v1 --model judge --judge-mode ranking
  {prog} --scores evaluations/{suite}/default/scores.jsonl"""

DATA = {"pairs": "pairs.jsonl --format pairs"}
"""What stands for the data in the examples, where it is not a folder of the benchmark."""


def main(arguments: Sequence[str], *, prog: str, suite: str) -> int:
    """Evaluates, writes and prints; returns 0.

    Raises:
        UserError: naming the flag or file, the value and the fix.
        EvaluationFailed: if the endpoint failed on the way, where what was scored is kept; or if no
            group has its rewards.
    """
    parser = _parser(prog, SUITES[suite])
    given = parser.parse_args(arguments)
    config = read_settings(EvaluationConfig, given)
    job = Job(SUITES[suite], config, given.data)
    with Reporter(stream=sys.stderr) as reporter:
        evaluation, folder = job.from_scores() if config.scores else job.run(reporter)
        results = summarize(evaluation)
        with writing(folder):
            write_files(results, folder)
            if not config.scores:
                job.write_reference(results, folder)
    show(results)
    sys.stdout.write(f"{folder / RESULTS}\n")
    if job.failure is not None:
        raise EvaluationFailed(f"{job.failure}; what was scored is kept: start again to go on")
    if results.overall is None:
        raise EvaluationFailed(f"nothing is scored: {'; '.join(results.partial_reasons)}")
    return 0


class Job:
    """One evaluation as the flags have it.

    Attributes:
        failure: what ended it before it was done, if anything did.
    """

    def __init__(self, suite: Suite, config: EvaluationConfig, data: Sequence[str]) -> None:
        self._suite = suite
        self._config = config
        self._given = data
        self.failure: str | None = None

    def from_scores(self) -> tuple[Evaluation, Path]:
        """The evaluation of stored scores.

        Raises:
            UserError: if they cannot be read, or data are given as well.
        """
        scores = self._config.scores
        assert scores is not None, "asked for by the flags"
        refuse(self._config, OF_ASKING, "stored scores are taken as they are")
        if self._given:
            raise BenchmarkError(f"{self._given[0]}: stored scores need no data; leave it out")
        folder = self._config.output or scores.parent / f"{scores.stem}-{self._suite.name}"
        make_output(folder)
        name = self._config.name or (scores.name if scores.is_dir() else scores.stem)
        return self._evaluation(
            Outcome({"as_asked": list(read_scores(scores))}),
            Description(name),
            None,
            judge_mode=self._stored_judge_mode(scores),
        ), folder

    def _stored_judge_mode(self, scores: Path) -> JudgeMode | None:
        """How the judge was asked whose scores are stored: as told, or as they tell themselves."""
        if "judge_mode" in self._config.model_fields_set:
            return self._config.judge_mode
        mode = (read_pins(scores_file(scores)) or {}).get("judge_mode")
        return mode if mode in get_args(JudgeMode) else None

    def run(self, reporter: Reporter) -> tuple[Evaluation, Path]:
        """Reads the data, asks, and keeps everything in the folder.

        Raises:
            UserError: if data, flags or endpoint cannot be used.
        """
        return asyncio.run(self._run(reporter))

    async def _run(self, reporter: Reporter) -> tuple[Evaluation, Path]:
        data = self._data()
        self._ties()  # a flag that does not fit is told before anybody is asked
        async with open_asking(self._config) as asking:
            survey = data.survey()
            _tell(survey, reporter)
            self._suite.check(survey.examples)
            folder = self._folder(asking.description)
            make_output(folder)
            outcome = await run_passes(
                asking,
                data,
                survey,
                folder,
                pins=self._pins(asking.description, survey),
                on_progress=reporter.progress,
            )
        self.failure = outcome.failure
        mode = self._config.judge_mode if self._config.judge else None
        return self._evaluation(outcome, asking.description, survey, judge_mode=mode), folder

    def _data(self) -> Data:
        suite, config = self._suite, self._config
        named = config.format or suite.format
        given = list(self._given) or [suite.hub] if suite.hub else list(self._given)
        if not given:
            raise BenchmarkError("DATA: missing; give the files of the pairs")
        split = config.split or suite.split
        format = find_format(named) if named else None
        sources = [Source(location, format, split) for location in given]
        if config.prior_sets is not None:
            if suite.name != "rewardbench":
                raise BenchmarkError(f"--prior-sets: {suite.title} has none; leave it out")
            sources.append(Source(config.prior_sets, find_format("preference-test-sets")))
        return Data(sources, skip_bad=config.skip_bad, limit=config.limit)

    def _folder(self, description: Description) -> Path:
        return self._config.output or OUTPUT / self._suite.name / _file_name(
            self._name(description), description.fingerprint
        )

    def _name(self, description: Description) -> str:
        return self._config.name or description.model

    def _pins(self, description: Description, survey: Survey) -> dict[str, Any]:
        config = self._config
        return {
            "benchmark": self._suite.name,
            "data": survey.digest,
            "groups": survey.groups,
            "model": description.model,
            "fingerprint": description.fingerprint,
            "wire": "judge" if config.judge else config.wire if config.server else "in process",
            "judge_mode": config.judge_mode if config.judge else None,
            "judge_tokens": config.judge_tokens if config.judge else None,
            "on_overflow": config.on_overflow,
            "max_length": config.max_length,
            "tokenizer": config.tokenizer and str(config.tokenizer.resolve()),
        }

    def _ties(self) -> Ties:
        given = self._config.ties
        if given is not None and self._suite.has_own_ties:
            raise BenchmarkError(
                f"--ties: {given}; {self._suite.title} has a rule of its own for equal rewards:"
                " leave it out"
            )
        return given or self._suite.ties

    def _evaluation(
        self,
        outcome: Outcome,
        description: Description,
        survey: Survey | None,
        *,
        judge_mode: JudgeMode | None,
    ) -> Evaluation:
        config = self._config
        reasons = []
        if outcome.failure is not None:
            reasons.append(f"ended half-way: {outcome.failure}")
        if config.limit is not None and survey and survey.is_cut:
            reasons.append(f"--limit: only the first {config.limit:,} groups were asked for")
        return Evaluation(
            suite=self._suite,
            ties=self._ties(),
            model=self._name(description),
            fingerprint=description.fingerprint,
            views=outcome.views,
            survey=survey,
            settings={
                **config.model_dump(mode="json", exclude_unset=True, exclude={"output"}),
                "judge_mode": judge_mode,
                "controls": list(config.controls),
                "seed": config.seed,
                "sources": list(self._given),
                "ties": self._ties(),
                "rule": list(self._suite.sources),
                "data": survey.digest if survey else None,
                "kind": description.kind,
                "software": dict(description.software),
                "versions": versions("medpref"),
            },
            seed=config.seed,
            judge_mode=judge_mode,
            reasons=reasons,
        )

    def write_reference(self, results: Results, folder: Path) -> None:
        """Writes the reference tool's files, reading the texts once more."""
        is_judge = self._config.judge is not None
        subject = Subject(results.model, model_type="Generative" if is_judge else "Seq. Classifier")
        layout = LAYOUTS.get(self._suite.name, "pairs")
        with ReferenceFiles(folder / REFERENCE, subject, layout) as files:
            scored = read_back(journal_of(folder, "as_asked"))
            for group, line in zip(self._data().stream(), scored, strict=False):
                files.add(group, line)
            scores = results.sections if layout == "rewardbench2" else results.subsets
            files.finish({name: score.score for name, score in scores.items()})


def write_files(results: Results, folder: Path) -> None:
    """Writes what people and machines read."""
    from benchmarks.page import write_page  # noqa: PLC0415 - loads jinja2

    rows = published(results.benchmark)
    write_results(folder / RESULTS, results)
    markdown = "\n".join(to_markdown(table) for table in tables_of(results, rows))
    (folder / TABLE).write_text(markdown, encoding="utf-8")
    write_page(folder / PAGE, results, rows)


def show(results: Results) -> None:
    """Prints the tables."""
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in tables_of(results, published(results.benchmark)):
        console.print(to_rich(table))


def _parser(prog: str, suite: Suite) -> Parser:
    data = DATA.get(suite.name, f"{suite.name}.parquet")
    parser = Parser(
        prog,
        f"{suite.title}: score a reward model as it is served, by the published rule, with"
        " intervals and controls.\nData are files or folders in the published layout, or the name"
        f" of a data set on a hub.\n\nlayouts (--format):\n{_layouts()}",
        examples=EXAMPLES.format(prog=prog, data=data, suite=suite.name),
    )
    default = f"; left out, {suite.hub} on the hub" if suite.hub else ""
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"where the groups are{default}")
    add_settings(parser, EvaluationConfig)
    return parser


def _layouts() -> str:
    width = max(map(len, FORMATS))
    return "\n".join(f"  {name:<{width}}  {each.layout}" for name, each in FORMATS.items())


def _tell(survey: Survey, reporter: Reporter) -> None:
    bad = f", {survey.bad_records:,} bad records skipped" if survey.bad_records else ""
    reporter.event(
        "data.read",
        "\n        ".join([f"{survey.groups:,} groups{bad}", *survey.bad_shown]),
        groups=survey.groups,
        bad_records=survey.bad_records,
        examples=survey.bad_shown,
    )


def _file_name(model: str, fingerprint: str | None) -> str:
    plain = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
    return plain if fingerprint is None else f"{plain}-{fingerprint[:8]}"
