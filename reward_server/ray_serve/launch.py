"""A deployment on this machine, on a Ray of its own, from start to drained stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from queue import SimpleQueue

import structlog

from foundation.errors import UserError
from reward_server.access import Keyring, check_binding
from reward_server.errors import ServerStartError
from reward_server.ray_serve.deployment import QUIET, bind, import_serve
from reward_server.ray_serve.settings import ScaleOutConfig
from reward_server.server import bind as bind_socket
from reward_server.server import configure_logging

APPLICATION = "reward"

DELETE_MARGIN_SECONDS = 15.0
"""What Serve may take beyond a replica's own time to drain."""

RAY_OPTIONS = {
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,  # requests do not pass through it
    "log_to_driver": False,
    "logging_level": "ERROR",
}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "reward_server.ray_serve:front",
}
"""What Ray's processes must find in their environment; with ``ray start``, every node's."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def run(config: ScaleOutConfig, read_again: Callable[[], ScaleOutConfig]) -> int:
    """Serves on this machine, on a Ray of its own, until SIGTERM or SIGINT; returns 0.

    Prints the event ``server.ready`` with the URL on standard output once all replicas score.
    SIGHUP deploys what ``read_again`` gives, replica by replica.

    Raises:
        ServerStartError: one line naming the setting, its value and the fix.
    """
    configure_logging()
    check_binding(config.host, has_keys=Keyring.load(config.keys).has_keys)
    with bind_socket(config.host, config.port) as listener:
        port = listener.getsockname()[1]
    import_serve()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    import ray  # noqa: PLC0415  # seconds: what is wrong with port or keys is said before

    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    # Ray prints news of its own, and standard output is for events.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stdout))
    with redirect_stdout(sys.stderr):
        ray.init(address="local", **RAY_OPTIONS)
        try:
            _serve(config, read_again, port=port)
        finally:
            ray.shutdown()
    return 0


def _serve(config: ScaleOutConfig, read_again: Callable[[], ScaleOutConfig], *, port: int) -> None:
    hangups: SimpleQueue[int] = SimpleQueue()
    # Now: Ray has put handlers of its own, which only abort.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda number, frame: hangups.put(number))
    try:
        import_serve().start(http_options={"host": config.host, "port": port}, logging_config=QUIET)
        _deploy(config)
        host = f"[{config.host}]" if ":" in config.host else config.host
        log.info("server.ready", url=f"http://{host}:{port}", replicas=config.min_replicas)
        while hangups.get():
            _deploy_again(read_again)
    except KeyboardInterrupt:
        _drain(config.drain_seconds + DELETE_MARGIN_SECONDS)
        log.info("server.stopped")


def check_room(config: ScaleOutConfig, resources: Mapping[str, float]) -> None:
    """Refuses what Ray would wait for without end.

    Raises:
        ServerStartError: if the smallest number of replicas does not fit on the machine.
    """
    for setting, name in (("replica_cpus", "CPU"), ("replica_gpus", "GPU")):
        each, there = getattr(config, setting), resources.get(name, 0)
        if each * config.min_replicas > there:
            raise ServerStartError(
                f"{setting}: {each:g} {name} for each of {config.min_replicas} replicas, this "
                f"machine has {there:g}; give less of either"
            )


def _deploy(config: ScaleOutConfig) -> None:
    import ray  # noqa: PLC0415  # as in run

    check_room(config, ray.cluster_resources())
    serve = import_serve()
    try:
        serve.run(bind(config), name=APPLICATION)
    except RuntimeError as error:
        deployments = serve.status().applications[APPLICATION].deployments.values()
        raise ServerStartError(
            reason_of([str(error), *(deployment.message for deployment in deployments)])
        ) from None


def reason_of(messages: Sequence[str]) -> str:
    """One line that says why replicas did not start, from what Serve tells of them."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    raised = [line for line in lines if f"{ServerStartError.__name__}: " in line]
    return raised[-1].partition(": ")[2] if raised else " ".join(filter(None, lines))


def _deploy_again(read_again: Callable[[], ScaleOutConfig]) -> None:
    try:
        config = read_again()
        _deploy(config)
    except UserError as error:
        log.error("server.not_redeployed", reason=str(error))
        return
    log.info("server.redeployed", replicas=config.min_replicas)


def _drain(seconds: float) -> None:
    """Takes the application away: Serve lets every replica answer what it has."""
    # A second signal ends the process, and Ray with it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve = import_serve()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            serve.delete(APPLICATION)
            return
        except TimeoutError:  # Serve itself waits for a minute
            continue
    log.error("server.not_drained", seconds=seconds)
