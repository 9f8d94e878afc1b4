"""``medpref runs``: list runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from foundation.parsing import Parser
from loop.errors import RunError
from loop.folder import RunFolder
from loop.summary import read_summary
from medpref.commands.align import RUNS

NAMES = ("run", "status", "served")
NUMBERS = ("proxy reward", "gold", "gain, 95 %")


def main(arguments: list[str]) -> int:
    parser = Parser("medpref runs", "List the runs in a folder.", examples="  medpref runs")
    parser.add_argument(
        "--in", dest="parent", type=Path, default=RUNS, metavar="DIR", help="default: runs"
    )
    parent = parser.parse_args(arguments).parent
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in NAMES:
        table.add_column(name, no_wrap=True, overflow="fold")
    for name in NUMBERS:
        table.add_column(name)
    for path in sorted(parent.glob("*/summary.json")):
        table.add_row(path.parent.name, *_row(RunFolder(path.parent)))
    Console().print(table)
    return 0


def _row(folder: RunFolder) -> list[str]:
    try:
        summary = read_summary(folder.summary)
    except RunError:  # one broken run must not hide the others
        return ["unreadable"]
    final, baseline = summary.final, summary.baseline
    return [
        summary.status,
        final.policy_version,
        _change(baseline.proxy_reward, final.proxy_reward, places=2),
        _change(baseline.gold, final.gold, places=3),
        _interval(final.gold_gain_ci95),
    ]


def _change(before: float | None, after: float | None, *, places: int) -> str:
    if before is None or after is None:
        return "–"
    return f"{before:.{places}f} → {after:.{places}f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:+.3f}…{interval[1]:+.3f}" if interval else "–"
