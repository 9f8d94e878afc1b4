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

    After a kill it waits until every process that the driver had is gone as well.
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
                process.kill()
                _, alive = psutil.wait_procs(family, timeout=60)
                assert alive == [], "a killed driver leaves nothing behind"
                break
        code = process.wait()
        errors.seek(0)
        return Attempt(events, code, errors.read())


def _events(process: subprocess.Popen[str]) -> Iterator[Event]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def summary(run_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return loaded
