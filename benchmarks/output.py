"""The folder that a job leaves its files in."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.errors import BenchmarkError


def make_output(folder: Path) -> None:
    """Makes the folder, and sees to it before anything is asked that it can be written to.

    Raises:
        BenchmarkError: if it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(folder, os.W_OK) else "it may not be written to"
    except OSError as error:
        problem = error.strerror
    if problem is not None:
        raise BenchmarkError(f"--output: {folder}: {problem}; name another folder")
