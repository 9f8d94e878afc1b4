"""The ledger: the crash-safe record of a run, in SQLite under the run folder.

A step's output is written once, under its round and name, when the step is complete; a group is
written once, under its phase and question, when it is scored. So a run that was killed anywhere
finds what is done and does only the rest. One process works on a run at a time: the lock goes with
the process, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loop.errors import RunError
from loop.groups import ScoredCandidate, ScoredGroup

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS steps (
    round INTEGER NOT NULL, step TEXT NOT NULL, output TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (round, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    phase TEXT NOT NULL, question_id TEXT NOT NULL, policy_version TEXT NOT NULL,
    fingerprint TEXT, error TEXT,
    PRIMARY KEY (phase, question_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS candidates (
    phase TEXT NOT NULL, question_id TEXT NOT NULL, position INTEGER NOT NULL,
    text TEXT NOT NULL, length_tokens INTEGER NOT NULL, finish_reason TEXT NOT NULL,
    logprob REAL NOT NULL, base_logprob REAL, reward REAL, error TEXT,
    PRIMARY KEY (phase, question_id, position)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a finished step left. ``seconds`` is the wall time of the attempt that finished it."""

    output: dict[str, Any]
    seconds: float


class Ledger:
    """The record of one run. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates ``ledger.sqlite`` in ``folder``.

        Raises:
            RunError: if another process works on this run.
        """
        self._lock = (folder / "ledger.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RunError(f"{folder}: another process works on this run; wait for it") from None
        self._database = connect(folder / "ledger.sqlite")
        self._database.executescript("PRAGMA journal_mode = WAL;" + SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()
        self._lock.close()

    def fact(self, key: str) -> str | None:
        """Something that holds for the whole run."""
        row = self._database.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_fact(self, key: str, value: str) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    def step(self, round_number: int, step: str) -> StepRecord | None:
        """The record of a finished step, or ``None``."""
        query = "SELECT output, seconds FROM steps WHERE round = ? AND step = ?"
        row = self._database.execute(query, (round_number, step)).fetchone()
        return StepRecord(json.loads(row[0]), row[1]) if row else None

    def finish_step(self, round_number: int, step: str, record: StepRecord) -> None:
        """Writes a finished step; one that is already there stays as it is."""
        row = (round_number, step, json.dumps(record.output), record.seconds)
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO steps VALUES (?, ?, ?, ?)", row)

    def total_seconds(self) -> float:
        """Wall time of every finished step."""
        row = self._database.execute("SELECT COALESCE(SUM(seconds), 0.0) FROM steps").fetchone()
        return float(row[0])

    def add_group(self, phase: str, group: ScoredGroup) -> None:
        """Writes a scored group; one that is already there stays as it is."""
        head = (phase, group.question_id, group.policy_version, group.fingerprint, group.error)
        with self._database:
            cursor = self._database.execute(
                "INSERT OR IGNORE INTO groups VALUES (?, ?, ?, ?, ?)", head
            )
            if not cursor.rowcount:
                return
            self._database.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (phase, group.question_id, position, *_columns(candidate))
                    for position, candidate in enumerate(group.candidates)
                ],
            )

    def forget_groups(self, phase: str) -> None:
        """Removes the groups of a phase that has to be done anew."""
        with self._database:
            self._database.execute("DELETE FROM candidates WHERE phase = ?", (phase,))
            self._database.execute("DELETE FROM groups WHERE phase = ?", (phase,))

    def groups(self, phase: str) -> list[ScoredGroup]:
        """The scored groups of a phase, by question id."""
        return read_groups(self._database, phase)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a ledger; readers may look while a run goes on."""
    return sqlite3.connect(path, timeout=30)


def read_groups(database: sqlite3.Connection, phase: str) -> list[ScoredGroup]:
    """The scored groups of a phase, by question id."""
    candidates: dict[str, list[ScoredCandidate]] = {}
    query = (
        "SELECT question_id, text, length_tokens, finish_reason, logprob, base_logprob, reward,"
        " error FROM candidates WHERE phase = ? ORDER BY question_id, position"
    )
    for question_id, *columns in database.execute(query, (phase,)):
        candidates.setdefault(question_id, []).append(ScoredCandidate(*columns))
    query = (
        "SELECT question_id, policy_version, fingerprint, error FROM groups"
        " WHERE phase = ? ORDER BY question_id"
    )
    return [
        ScoredGroup(
            question_id, version, fingerprint, tuple(candidates.get(question_id, ())), error
        )
        for question_id, version, fingerprint, error in database.execute(query, (phase,))
    ]


def _columns(candidate: ScoredCandidate) -> tuple[object, ...]:
    return (
        candidate.text,
        candidate.length_tokens,
        candidate.finish_reason,
        candidate.logprob,
        candidate.base_logprob,
        candidate.reward,
        candidate.error,
    )
