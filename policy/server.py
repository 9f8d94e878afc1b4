"""Starts, watches, restarts and drains a vLLM server.

Promises: the server listens on loopback only; it never outlives this process; after a crash it
comes back with the adapters that it served, at most ``max_restarts`` times; running requests get
``drain_seconds`` to finish when it is stopped. What is served is looked up every second, so an
adapter that was loaded in the last second before a crash may be missing afterwards.

Reaches vLLM as a command and over HTTP only: it never imports it. Does not know vLLM's flags, what
the requests are about, nor which adapter is good.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from foundation.process import ChildProcess, ProcessError
from policy.config import HOST, PolicyServerConfig
from policy.errors import PolicyServerFailed
from policy.launch import (
    check_setup,
    command,
    environment,
    is_cpu_build,
    write_identity_adapter,
)
from policy.protocol import ModelsAnswer

LOOK_SECONDS = 1.0
"""Pause between two looks at what is served."""

EXIT_SECONDS = 10
"""What the server may take to leave once its requests have drained."""

logger = logging.getLogger(__name__)


class PolicyServer:
    """One vLLM server and the thread that watches it; use it as a context manager.

    Args:
        config: what to serve, and how.
        adapters: version → adapter folder, served from the start.

    Attributes:
        restarts: crashes so far that were answered with a restart.
    """

    def __init__(
        self, config: PolicyServerConfig, *, adapters: Mapping[str, Path] | None = None
    ) -> None:
        self.config = config
        self.restarts = 0
        self._adapters = dict(adapters or {})
        self._child: ChildProcess | None = None
        self._watcher = threading.Thread(target=self._watch, name="policy-watcher", daemon=True)
        self._launching = threading.Lock()
        self._stopping = False
        self._has_failed = False
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://{HOST}:{self.config.port}"

    def start(self) -> None:
        """Starts the server and returns once it answers.

        Raises:
            PolicySetupError: before anything is started, if the model, an adapter or the port
                cannot be used.
            ProcessError: if the server ends, or does not answer in time; names the log file.
        """
        check_setup(self.config, adapters=self._adapters)
        write_identity_adapter(self.config)
        try:
            self._launch()
        except BaseException:  # Ctrl-C too: whoever sees this fail has nothing to stop
            self.stop()
            raise
        self._watcher.start()

    def wait(self) -> None:
        """Blocks until the server was stopped.

        Raises:
            PolicyServerFailed: if it crashed more often than allowed.
        """
        self._over.wait()
        if self._has_failed:
            raise PolicyServerFailed(
                f"policy server: crashed after {self.restarts} restarts; see {self.config.log_file}"
            )

    def stop(self) -> None:
        """Lets running requests finish, at most ``drain_seconds``, and ends the server."""
        with self._launching:
            self._stopping = True
        if self._child:
            self._child.terminate(grace=self.config.drain_seconds + EXIT_SECONDS)
        if self._watcher.is_alive():
            self._watcher.join()
        self._over.set()

    def _launch(self) -> None:
        with self._launching:
            if self._stopping:
                return
            on_cpu = is_cpu_build()
            child = self._child = ChildProcess(
                command(self.config, adapters=self._adapters, on_cpu=on_cpu),
                log_file=self.config.log_file,
                environment=environment(self.config, on_cpu=on_cpu),
            )
        child.wait_until_ready(f"{self.url}/health", timeout=self.config.ready_timeout_seconds)

    def _watch(self) -> None:
        while self._child:
            self._look_until_end(self._child)
            if self._stopping:
                break
            if self.restarts == self.config.max_restarts:
                self._has_failed = True
                break
            self.restarts += 1
            self._relaunch(self._child)
        self._over.set()

    def _look_until_end(self, child: ChildProcess) -> None:
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            while child.wait(LOOK_SECONDS) is None:
                served = _served_adapters(client)
                if served is not None:
                    self._adapters = served

    def _relaunch(self, crashed: ChildProcess) -> None:
        logger.warning(
            "policy server: ended with code %s; restart %d of %d",
            crashed.returncode,
            self.restarts,
            self.config.max_restarts,
        )
        # An adapter is read from its folder: one whose folder is gone cannot come back.
        self._adapters = {name: path for name, path in self._adapters.items() if path.is_dir()}
        try:
            self._launch()
        except ProcessError as error:  # counts as the next crash
            logger.warning("policy server: %s", error)
            if self._child:
                self._child.terminate()


def serve(config: PolicyServerConfig, *, adapters: Mapping[str, Path] | None = None) -> None:
    """Serves in the foreground until SIGTERM or SIGINT, then drains.

    Writes one line of JSON to standard output when ready: ``{"event": "server.ready", "url": …}``.
    Call it from the main thread.

    Raises:
        PolicySetupError, ProcessError: if the server cannot be started.
        PolicyServerFailed: if it crashed more often than allowed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), PolicyServer(config, adapters=adapters) as server:
        sys.stdout.write(json.dumps({"event": "server.ready", "url": server.url}) + "\n")
        sys.stdout.flush()
        server.wait()


def _served_adapters(client: httpx.Client) -> dict[str, Path] | None:
    """What is served now, or ``None`` if the server did not say."""
    try:
        response = client.get("/v1/models")
    except httpx.TransportError:
        return None
    if response.is_error:
        return None
    adapters = ModelsAnswer.model_validate_json(response.content).adapters
    return {name: Path(path) for name, path in adapters.items()}
