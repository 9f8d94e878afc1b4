"""Keeps one command alive for as long as its owner lives, and takes all of it down afterwards.

Run as ``python -I keeper.py OWNER_PID COMMAND…`` by :mod:`foundation.process`. The keeper sits
between owner and command because nothing else survives ``kill -9`` of the owner: a parent-death
signal follows the thread that started the child and reaches no grandchild.

Promises: when the owner is gone, or on SIGTERM, the command gets SIGTERM; when the command has
ended, on SIGQUIT, or ``GRACE_SECONDS`` after the owner died, every process left in the command's
group is killed; when the keeper itself is killed, the kernel sends the command SIGTERM. The exit
code is the command's, 128 + N where signal N ended it.

Standard library only: it starts in milliseconds and holds no memory that a server could use.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

GRACE_SECONDS = 5.0
"""What a command may take to leave once its owner is dead: nobody waits for its answers."""

PR_SET_PDEATHSIG = 1
"""``prctl`` option of Linux, from ``linux/prctl.h``."""


def main(arguments: list[str]) -> int:
    """Runs the command until it ends or its owner does; returns the exit code for both."""
    owner, command = int(arguments[0]), arguments[1:]
    owner_handle = os.pidfd_open(owner)
    if os.getppid() != owner:  # it died while this interpreter started
        return 1
    child = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=_follow_keeper,  # noqa: PLW1509 - safe here: the keeper has one thread
    )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGQUIT, lambda *_: _kill_group(child.pid))
    _wait(child, owner_handle)
    _kill_group(child.pid)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _follow_keeper() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(child: subprocess.Popen[bytes], owner_handle: int) -> None:
    """Returns when the child has ended, or when it outlived its owner for too long."""
    child_handle = os.pidfd_open(child.pid)
    ready, _, _ = select.select([child_handle, owner_handle], [], [])
    if child_handle not in ready:
        child.terminate()
        select.select([child_handle], [], [], GRACE_SECONDS)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
