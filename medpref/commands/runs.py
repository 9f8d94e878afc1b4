"""``medpref runs``: list runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from foundation.parsing import Parser
from loop.folder import RunFolder
from loop.summary import Summary
from medpref.commands.align import RUNS

COLUMNS = ("run", "status", "world", "seed", "rounds", "served", "proxy", "gold", "gold gain")


def main(arguments: list[str]) -> int:
    parser = Parser("medpref runs", "List the runs in a folder.", examples="  medpref runs")
    parser.add_argument(
        "--in", dest="parent", type=Path, default=RUNS, metavar="DIR", help="default: runs"
    )
    parent = parser.parse_args(arguments).parent
    table = Table(*COLUMNS)
    for path in sorted(parent.glob("*/summary.json")):
        table.add_row(path.parent.name, *_row(RunFolder(path.parent)))
    Console().print(table)
    return 0


def _row(folder: RunFolder) -> list[str]:
    summary = Summary.model_validate_json(folder.summary.read_text(encoding="utf-8"))
    final, baseline = summary.final, summary.baseline
    return [
        summary.status,
        summary.world,
        str(summary.seed),
        str(len(summary.rounds)),
        final.policy_version,
        _change(baseline.proxy_reward, final.proxy_reward),
        _change(baseline.gold, final.gold),
        _interval(final.gold_gain_ci95),
    ]


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "–"
    return f"{before:.3f} → {after:.3f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:+.3f} … {interval[1]:+.3f}" if interval else "–"
