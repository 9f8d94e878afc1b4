"""``medpref bench``: evaluation and speed, each job behind its own entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from foundation.parsing import Parser

EVALUATION = "benchmarks.evaluation.job"


@dataclass(frozen=True, slots=True)
class Job:
    """What does a job: ``main`` of a module, imported when it is asked for."""

    does: str
    module: str
    options: Mapping[str, str] = field(default_factory=dict)


JOBS = {
    "rewardbench": Job("RewardBench, with prior sets", EVALUATION, {"suite": "rewardbench"}),
    "rewardbench2": Job("RewardBench 2", EVALUATION, {"suite": "rewardbench2"}),
    "medical-rewardbench": Job(
        "Medical RewardBench (UltraMedical)", EVALUATION, {"suite": "medical-rewardbench"}
    ),
    "rm-bench": Job("RM-Bench", EVALUATION, {"suite": "rm-bench"}),
    "pairs": Job("any pairs or ranked groups", EVALUATION, {"suite": "pairs"}),
    "compare": Job("two evaluations of one benchmark, with tests", "benchmarks.compare"),
    "table": Job("several evaluations in one table", "benchmarks.side_by_side"),
    "qa": Job("medical questions, on a policy server", "benchmarks.qa.job"),
    "long-form": Job(
        "long answers, held to statements by a judge (K-QA)", "benchmarks.long_form.job"
    ),
    "best-of-n": Job("choosing by reward, beside voting and chance", "benchmarks.best_of_n.job"),
    "before-after": Job(
        "base and final policy of a run, with an alignment tax", "benchmarks.before_after.job"
    ),
    "harness": Job("lm-evaluation-harness, on a policy server", "benchmarks.harness.command"),
    "throughput": Job("speed of scoring beside others", "benchmarks.throughput.job"),
}

EXAMPLES = """  medpref bench rewardbench filtered.parquet --server http://127.0.0.1:8100
  medpref bench pairs MT-Bench.json FairEval.json --server http://127.0.0.1:8100
  medpref bench compare evaluations/pairs/base evaluations/pairs/r3
  medpref bench qa --help"""


def main(arguments: list[str]) -> int:
    width = max(map(len, JOBS))
    jobs = "\n".join(f"  {name:<{width}}  {job.does}" for name, job in JOBS.items())
    parser = Parser(
        "medpref bench",
        f"Evaluate and measure what is served.\n\njobs:\n{jobs}",
        examples=EXAMPLES,
    )
    parser.add_argument("job", choices=JOBS, metavar="JOB", help="one of the above")
    job = JOBS[parser.parse_args(arguments[:1]).job]
    entry = import_module(job.module)
    return int(entry.main(arguments[1:], prog=f"medpref bench {arguments[0]}", **job.options))
