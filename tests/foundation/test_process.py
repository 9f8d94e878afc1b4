import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import UserError
from foundation.process import (
    ChildProcess,
    ProcessEnded,
    ProcessNotReady,
    free_port,
    port_in_use,
)

PATIENCE_SECONDS = 20

STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as report:
    report.write(f"{os.getpid()} {grandchild.pid}")
time.sleep(600)
"""
"""Ignores SIGTERM and has a child of its own; reports both process ids."""

POLITE = """
import os, sys, time
with open(sys.argv[1], "w") as report:
    report.write(str(os.getpid()))
time.sleep(600)
"""

OWNER_THAT_STARTS_FROM_A_THREAD = """
import sys, threading, time
from pathlib import Path
from foundation.process import ChildProcess
command, log_file = sys.argv[2:], Path(sys.argv[1])
starter = threading.Thread(target=lambda: ChildProcess(command, log_file=log_file))
starter.start()
starter.join()
time.sleep(600)
"""


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A pipe with a name: reading it waits until a process has reported its ids."""
    path = tmp_path / "report"
    os.mkfifo(path)
    return path


@pytest.fixture
def handles() -> Iterator[list[int]]:
    opened: list[int] = []
    yield opened
    for handle in opened:
        os.close(handle)


def watch(report: Path, handles: list[int]) -> list[int]:
    """The reported process ids; their handles are opened at once, so no id is taken for another."""
    pids = [int(pid) for pid in report.read_text().split()]
    handles.extend(os.pidfd_open(pid) for pid in pids)
    return pids


def all_end(handles: list[int]) -> bool:
    return all(select.select([handle], [], [], PATIENCE_SECONDS)[0] for handle in handles)


def python(source: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", source, *map(str, arguments)]


def test_a_server_is_ready_once_its_url_answers(log_file: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with ChildProcess(command, log_file=log_file) as child:
        child.wait_until_ready(f"http://127.0.0.1:{port}/", timeout=PATIENCE_SECONDS)
        assert child.wait(0) is None
        assert port_in_use("127.0.0.1", port)
    assert child.returncode == 128 + signal.SIGTERM
    assert not port_in_use("127.0.0.1", port)


def test_a_child_that_ends_early_is_reported_at_once_with_its_last_words(log_file: Path) -> None:
    source = "import sys; print('loading'); sys.exit('no such model')"
    started = time.monotonic()
    with (
        ChildProcess(python(source), log_file=log_file) as child,
        pytest.raises(ProcessEnded) as caught,
    ):
        child.wait_until_ready(f"http://127.0.0.1:{free_port()}/", timeout=600)
    assert time.monotonic() - started < PATIENCE_SECONDS
    assert str(caught.value) == f"{log_file}: ended with code 1 before it was ready: no such model"
    assert sorted(caught.value.tail) == ["loading", "no such model"]
    assert isinstance(caught.value, UserError)


def test_a_command_that_does_not_exist_is_named(log_file: Path) -> None:
    with (
        ChildProcess(["no-such-program"], log_file=log_file) as child,
        pytest.raises(ProcessEnded, match="No such file or directory: 'no-such-program'"),
    ):
        child.wait_until_ready(f"http://127.0.0.1:{free_port()}/", timeout=600)


def test_a_child_that_never_answers_is_given_up_after_the_time_allowed(log_file: Path) -> None:
    with (
        ChildProcess(python("import time; time.sleep(600)"), log_file=log_file) as child,
        pytest.raises(ProcessNotReady, match=r"child\.log: no answer .* after 0\.2 s"),
    ):
        child.wait_until_ready(f"http://127.0.0.1:{free_port()}/", timeout=0.2)


def test_the_environment_is_laid_over_the_inherited_one(log_file: Path) -> None:
    source = "import os; print(os.environ['COLOUR'], 'PATH' in os.environ)"
    with ChildProcess(python(source), log_file=log_file, environment={"COLOUR": "red"}) as child:
        assert child.wait(PATIENCE_SECONDS) == 0
        assert child.tail() == ["red True"]


def test_waiting_has_a_bound(log_file: Path) -> None:
    with ChildProcess(python("import time; time.sleep(600)"), log_file=log_file) as child:
        assert child.wait(0.05) is None


def test_a_whole_family_that_ignores_sigterm_is_killed_after_the_grace(
    log_file: Path, report: Path, handles: list[int]
) -> None:
    child = ChildProcess(python(STUBBORN_FAMILY, report), log_file=log_file)
    watch(report, handles)
    child.terminate(grace=0.1)
    assert child.returncode == 128 + signal.SIGKILL
    assert all_end(handles)


def test_what_a_crashed_child_leaves_behind_is_killed(
    log_file: Path, report: Path, handles: list[int]
) -> None:
    with ChildProcess(python(STUBBORN_FAMILY, report), log_file=log_file) as child:
        pid, _ = watch(report, handles)
        os.kill(pid, signal.SIGKILL)
        assert child.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL
        assert all_end(handles)


def test_kill_9_of_the_owner_leaves_no_orphan_even_when_a_thread_started_the_child(
    tmp_path: Path, log_file: Path, report: Path, handles: list[int]
) -> None:
    family = python(STUBBORN_FAMILY, report)
    owner = subprocess.Popen(
        python(OWNER_THAT_STARTS_FROM_A_THREAD, log_file, *family),
        cwd=Path(__file__).parents[2],
    )
    watch(report, handles)
    owner.kill()
    assert owner.wait() == -signal.SIGKILL
    assert all_end(handles)


def test_kill_9_of_the_keeper_ends_the_command(
    log_file: Path, report: Path, handles: list[int]
) -> None:
    child = ChildProcess(python(POLITE, report), log_file=log_file)
    watch(report, handles)
    os.kill(child.pid, signal.SIGKILL)
    assert all_end(handles)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.integration
def test_killing_a_ray_actor_takes_its_child_along(
    log_file: Path, report: Path, handles: list[int]
) -> None:
    import ray

    class Owner:
        def __init__(self, command: list[str]) -> None:
            self.child = ChildProcess(command, log_file=log_file)

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = ray.remote(num_cpus=0)(Owner).remote(python(POLITE, report))
        watch(report, handles)
        ray.kill(actor)
        assert all_end(handles)
    finally:
        ray.shutdown()


def test_a_port_is_in_use_while_something_listens_on_it() -> None:
    port = free_port()
    assert not port_in_use("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert port_in_use("127.0.0.1", port)
