from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop.errors import RunError
from loop.groups import ScoredCandidate, ScoredGroup
from loop.ledger import Ledger, StepRecord

GROUP = ScoredGroup(
    "q1",
    "r1",
    "f00d",
    (
        ScoredCandidate("yes", 2, "stop", -0.5, base_logprob=-1.5, reward=0.25),
        ScoredCandidate("no", 1, "length", -0.1, error="reward is not finite"),
    ),
)


def test_groups_come_back_as_they_went_in(tmp_path: Path) -> None:
    failed = ScoredGroup("q0", "r1", None, (), error="no answer")
    with Ledger(tmp_path) as ledger:
        ledger.add_group("round/1", GROUP)
        ledger.add_group("round/1", failed)
    with Ledger(tmp_path) as ledger:
        assert ledger.groups("round/1") == [failed, GROUP]
        assert ledger.groups("round/2") == []


def test_what_is_written_twice_stays_as_it_was(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.add_group("round/1", GROUP)
        ledger.add_group("round/1", ScoredGroup("q1", "r9", None, (), error="late"))
        assert ledger.groups("round/1") == [GROUP]
        ledger.finish_step(1, "train", StepRecord({"steps": 3}, 1.0))
        ledger.finish_step(1, "train", StepRecord({"steps": 9}, 9.0))
        assert ledger.step(1, "train") == StepRecord({"steps": 3}, 1.0)
        assert ledger.total_seconds() == 1.0


def test_facts_are_remembered(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.fact("fingerprint") is None
        ledger.set_fact("fingerprint", "f00d")
        assert ledger.fact("fingerprint") == "f00d"


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(RunError, match="another process works on this run"):
        Ledger(tmp_path)


WRITER = """
import sys
from pathlib import Path
from loop.groups import ScoredGroup
from loop.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(100_000):
        ledger.add_group("round/1", ScoredGroup(f"q{number:06d}", "r1", None, (), error="x"))
        print(number, flush=True)
"""


def test_what_a_killed_process_had_written_is_there_and_the_lock_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 50:
                os.kill(writer.pid, signal.SIGKILL)
                break
    with Ledger(tmp_path) as ledger:
        ids = [group.question_id for group in ledger.groups("round/1")]
    assert len(ids) >= 51
    assert ids == [f"q{number:06d}" for number in range(len(ids))]
