"""``medpref report``: write a run's report again."""

from __future__ import annotations

import sys
from pathlib import Path

from foundation.parsing import Parser
from loop.folder import RunFolder
from loop.report import write_report


def main(arguments: list[str]) -> int:
    parser = Parser(
        "medpref report",
        "Write report.html of a run again, from its ledger and summary.",
        examples="  medpref report runs/quickstart-1",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the run folder")
    folder = RunFolder(parser.parse_args(arguments).run_dir)
    sys.stdout.write(f"{write_report(folder)}\n")
    return 0
