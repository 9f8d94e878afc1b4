"""``medpref bench``: evaluation and speed, each job behind its own entry point."""

from __future__ import annotations

from importlib import import_module

from foundation.parsing import Parser

JOBS = {"throughput": "benchmarks.throughput.job"}
"""Modules whose ``main`` does the job; imported when it is asked for."""


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref bench",
        "Measure: the speed of this server beside others.",
        examples="""  medpref bench throughput
  medpref bench throughput --workloads best_of_8 --output throughput.json
  medpref bench throughput --help""",
    )
    parser.add_argument("job", choices=JOBS, help="which one; each has its own --help")
    options = parser.parse_args(arguments[:1])
    job = import_module(JOBS[options.job])
    return int(job.main(arguments[1:], prog=f"medpref bench {options.job}"))
