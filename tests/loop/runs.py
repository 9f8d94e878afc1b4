"""Runs of the real command line in processes of their own, watched through their events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MINI = Path(__file__).parent / "mini.toml"
Event = dict[str, Any]

RAYS_OWN = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Agents of Ray that look only now and then whether their raylet is alive: they leave within two
minutes, and hold nothing of a run."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one process told before it ended, and how it ended."""

    events: list[Event]
    code: int
    errors: str

    def started_steps(self) -> list[tuple[int, str]]:
        return [(e["round"], e["step"]) for e in self.events if e["event"] == "step.started"]


def align(
    run_dir: Path,
    *arguments: str,
    kill_at: Callable[[Event], bool] = lambda _: False,
    log: Path,
) -> Attempt:
    """Runs ``medpref align`` on the mini recipe; kills the driver at the first event that fits.

    After a kill it waits until every process that the driver had is gone as well: the actors, both
    servers and all that they started.
    """
    command = [sys.executable, "-m", "medpref", "align", str(MINI), "--run-dir", str(run_dir)]
    with (
        log.open("a+", encoding="utf-8") as errors,
        subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        events = []
        for event in _events(process):
            events.append(event)
            if kill_at(event):
                family = psutil.Process(process.pid).children(recursive=True)
                ours = [one for one in family if not _describe(one).startswith(RAYS_OWN)]
                process.kill()
                _, alive = psutil.wait_procs(ours, timeout=60)
                assert [shown for one in alive if (shown := _describe(one))] == []
                break
        code = process.wait()
        errors.seek(0)
        return Attempt(events, code, errors.read())


def _events(process: subprocess.Popen[str]) -> Iterator[Event]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def _describe(process: psutil.Process) -> str:
    """What a process is; empty if it is gone, or only waits to be collected by the system."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def summary(run_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return loaded
