"""The quickstart over several seeds: does the policy get better, how long, in how much memory?

    python -m benchmarks.quickstart --seeds 0 1 2 --output runs/seeds

Every seed starts from an empty model cache, as on a fresh clone. Memory is the proportional set
size of the command and all its descendants, looked at once a second: shared pages count once.
Prints one table; the last line is one JSON document.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from foundation.parsing import Parser

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. ``seconds`` is the wall time of the whole command, models made included."""

    seed: int
    seconds: float
    peak_gib: float
    base_gold: float | None
    final_gold: float | None
    gold_gain_ci95: tuple[float, float] | None
    base_proxy: float | None
    final_proxy: float | None
    length_growth: float
    promoted: int
    served: str
    reward_accuracy: float | None
    length_only_accuracy: float | None
    deploy_seconds: list[float]
    requests_in_flight: int
    failed_requests: int


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        "python -m benchmarks.quickstart",
        "Run the quickstart, or another recipe, for several seeds and sum up.",
        examples="  python -m benchmarks.quickstart --seeds 0 1 2 --output runs/seeds",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--recipe", default="recipes/quickstart.toml")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args(arguments)
    rows = []
    for seed in options.seeds:
        overrides = [f"--set={override}" for override in (*options.overrides, f"seed={seed}")]
        rows.append(measure(seed, options.output / f"seed-{seed}", [options.recipe, *overrides]))
    Console().print(_table(rows))
    sys.stdout.write(json.dumps([asdict(row) for row in rows]) + "\n")
    return 0


def measure(seed: int, run_dir: Path, recipe: list[str]) -> Measured:
    """Runs ``medpref align`` once, from an empty cache."""
    command = [sys.executable, "-m", "medpref", "align", *recipe, "--run-dir", str(run_dir)]
    cache = run_dir.with_name(f"{run_dir.name}-cache")
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    begun = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as process:
        peak = max(_looks(process), default=0)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    seconds = time.monotonic() - begun
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return _measured(summary, seconds, peak)


def _looks(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """Bytes of the process and its descendants, again and again until it ends."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            yield sum(_pss(one) for one in [root, *root.children(recursive=True)])
        except psutil.NoSuchProcess:
            return
        try:
            process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _measured(summary: dict[str, Any], seconds: float, peak: int) -> Measured:
    base, final, reward = summary["baseline"], summary["final"], summary["reward_model"]
    deploys = [played["deploy"] for played in summary["rounds"]]
    return Measured(
        seed=summary["seed"],
        seconds=seconds,
        peak_gib=peak / 2**30,
        base_gold=base["gold"],
        final_gold=final["gold"],
        gold_gain_ci95=final["gold_gain_ci95"],
        base_proxy=base["proxy_reward"],
        final_proxy=final["proxy_reward"],
        length_growth=final["length_tokens"] / base["length_tokens"] - 1,
        promoted=sum(played["gate"]["decision"] == "promoted" for played in summary["rounds"]),
        served=final["policy_version"],
        reward_accuracy=reward["heldout_accuracy"],
        length_only_accuracy=reward["length_only_accuracy"],
        deploy_seconds=[d["seconds"] for d in deploys if d["seconds"] is not None],
        requests_in_flight=sum(deploy["requests"] for deploy in deploys),
        failed_requests=sum(deploy["failed_requests"] for deploy in deploys),
    )


def _table(rows: list[Measured]) -> Table:
    """One column a seed, so that it fits any terminal."""
    table = Table("seed", *(str(row.seed) for row in rows))
    for name, tell in LINES.items():
        table.add_row(name, *(tell(row) for row in rows))
    return table


def _gain(row: Measured) -> str:
    if row.gold_gain_ci95 is None:
        return "–"
    low, high = row.gold_gain_ci95
    return f"{low:+.3f} … {high:+.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


LINES: dict[str, Callable[[Measured], str]] = {
    "wall time": lambda row: f"{row.seconds:.0f} s",
    "peak memory": lambda row: f"{row.peak_gib:.1f} GiB",
    "reward model accuracy": lambda row: _number(row.reward_accuracy),
    "longer answer wins": lambda row: _number(row.length_only_accuracy),
    "gold": lambda row: f"{_number(row.base_gold)} → {_number(row.final_gold)}",
    "gold gain, 95 %": _gain,
    "proxy reward": lambda row: f"{_number(row.base_proxy)} → {_number(row.final_proxy)}",
    "length": lambda row: f"{row.length_growth:+.0%}",
    "served (promoted)": lambda row: f"{row.served} ({row.promoted})",
    "redeploys": lambda row: ", ".join(f"{seconds:.2f} s" for seconds in row.deploy_seconds),
    "failed / in flight": lambda row: f"{row.failed_requests} / {row.requests_in_flight}",
}


if __name__ == "__main__":
    sys.exit(main())
