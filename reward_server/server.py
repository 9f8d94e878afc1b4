"""Model, application and socket put together: a reward server from start to drained stop.

Order of a start: resolve the model folder, bind the port, load the model, listen. What is wrong
with path or port is said before the seconds that loading takes. Order of a stop, on SIGTERM or
SIGINT: refuse new connections, answer what was admitted, end the device thread, exit 0. A dead
device thread stops the server the same way, with exit status 1, so that it is started afresh.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from reward_server.app import create_app
from reward_server.config import RewardServerConfig
from reward_server.errors import ServerStartError
from reward_server.protocol import ModelInfo
from reward_server.scorer import Scorer

BACKLOG = 1024
"""Connections that may wait to be accepted."""

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""What a model on the hub is fetched of: no pickles, no code."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def serve(config: RewardServerConfig) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status.

    Prints the event ``server.ready`` with the URL on standard output once it listens.

    Raises:
        ServerStartError: one line naming the setting, its value and the fix.
    """
    configure_logging()
    folder = find_model(config.model)
    with bind(config.host, config.port) as listener:
        # Only now: torch takes seconds to import, a wrong path or port should not.
        from reward_server.engine import SequenceClassificationScorer  # noqa: PLC0415

        scorer = SequenceClassificationScorer.load(folder, config)
        listen(listener)
        return run(config, scorer, listener)


def run(config: RewardServerConfig, scorer: Scorer, listener: socket.socket) -> int:
    """Serves ``scorer`` on a listening socket until a signal or a dead device ends it."""
    failures: list[BaseException] = []

    def stop(error: BaseException) -> None:
        failures.append(error)
        log.error("device.failed", exc_info=error)
        server.should_exit = True

    app = create_app(config, scorer, on_device_failure=stop)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=config.drain_seconds,
            lifespan="on",
        ),
        info=scorer.info,
    )

    def heed(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # For a signal before uvicorn listens to them, and for the one that it raises again at its end.
    signal.signal(signal.SIGTERM, heed)
    signal.signal(signal.SIGINT, heed)
    server.run(sockets=[listener])
    log.info("server.stopped")
    return 1 if failures else 0


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens."""

    def __init__(self, config: uvicorn.Config, *, info: ModelInfo) -> None:
        super().__init__(config)
        self._info = info

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        log.info(
            "server.ready",
            url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
            model=self._info.name,
            fingerprint=self._info.fingerprint,
            dtype=self._info.identity.dtype,
            device=self._info.device,
        )


def find_model(model: str) -> Path:
    """The folder of a path, or of a model name in the hub's cache or on the hub.

    Raises:
        ServerStartError: if there is no such folder, or no safetensors weights in it.
    """
    folder = Path(model)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(model, allow_patterns=list(HUB_FILES)))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError):
            raise ServerStartError(
                f"model: {model} is neither a folder nor a model that the hub gives; "
                "give the path of a reward model"
            ) from None
    if not any(folder.glob("*.safetensors")):
        raise ServerStartError(f"model: {folder} holds no *.safetensors; save the model as such")
    return folder


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
