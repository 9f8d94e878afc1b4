"""Model, application and socket put together: a reward server from start to drained stop.

Order of a start: check keys and host, bind the port, load the models, listen. What is wrong with
keys or port is said before the seconds that loading takes. Order of a stop, on SIGTERM or SIGINT:
turn unready, refuse new connections, answer what was admitted, end the threads, exit 0. A broken
device stops the server the same way, with exit status 1, so that it is started afresh.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from reward_server.access import Keyring, check_binding
from reward_server.config import RewardServerConfig
from reward_server.errors import ServerStartError
from reward_server.protocol import ModelInfo

if TYPE_CHECKING:
    from fastapi import FastAPI

    from reward_server.state import ServerState

BACKLOG = 1024
"""Connections that may wait to be accepted."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than clients (httpx: 5 s) and proxies (60 s) keep
theirs, since a request that meets a connection as it is closed is lost to its sender."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def serve(config: RewardServerConfig) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status.

    Prints the event ``server.ready`` with the URL on standard output once it listens.

    Raises:
        ServerStartError: one line naming the setting, its value and the fix.
    """
    configure_logging()
    keyring = Keyring.load(config.keys)
    check_binding(config.host, has_keys=keyring.has_keys)
    with bind(config.host, config.port) as listener:
        # Only now: torch takes seconds to import, a wrong port should not.
        from reward_server.app import create_app  # noqa: PLC0415

        failure = _Failure()
        app = create_app(config, keyring=keyring, on_device_failure=failure.happened)
        listen(listener)
        return run(app, config, listener, failure)


class _Failure:
    """Whether a device failed, and what to stop then."""

    def __init__(self) -> None:
        self.has_happened = False
        self.server: uvicorn.Server | None = None

    def happened(self, error: BaseException) -> None:
        self.has_happened = True
        log.error("device.failed", exc_info=error)
        if self.server is not None:
            self.server.should_exit = True


def run(
    app: FastAPI, config: RewardServerConfig, listener: socket.socket, failure: _Failure
) -> int:
    """Serves ``app`` on a listening socket until a signal or a dead device ends it."""
    server = failure.server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=config.drain_seconds,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            lifespan="on",
        ),
    )
    server.should_exit = failure.has_happened

    def heed(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # For a signal before uvicorn listens to them, and for the one that it raises again at its end.
    signal.signal(signal.SIGTERM, heed)
    signal.signal(signal.SIGINT, heed)
    server.run(sockets=[listener])
    log.info("server.stopped")
    return 1 if failure.has_happened or not server.started else 0


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens, and turns unready before it stops."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        log.info(
            "server.ready",
            url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
            models=[_described(served.scorer.info) for served in self._state.registry.all()],
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.is_draining = True
        await super().shutdown(sockets)

    @property
    def _state(self) -> ServerState:
        app: Any = self.config.app
        state: ServerState = app.state.server
        return state


def _described(info: ModelInfo) -> dict[str, str | None]:
    return {
        "name": info.name,
        "kind": info.identity.kind,
        "fingerprint": info.fingerprint,
        "dtype": info.identity.dtype,
        "device": info.device,
        "engine": info.engine,
    }


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening.

    Raises:
        ServerStartError: if the port is taken or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ServerStartError(f"host: {host!r} is not an address: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _not_bound(host, port, error) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Starts to listen.

    Raises:
        ServerStartError: if another server took the port while the model was loading.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _not_bound(host, port, error) from None


def configure_logging() -> None:
    """Events on standard output, JSON lines or coloured text on a terminal; the rest on stderr."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stdout.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def _not_bound(host: str, port: int, error: OSError) -> ServerStartError:
    return ServerStartError(
        f"port: cannot listen on {host}:{port} ({error.strerror}); give another --port"
    )
