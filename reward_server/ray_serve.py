"""Several processes of the one application, as a Ray Serve deployment that grows with the queue.

    client ── Serve's proxy, with Front ──┬── Replica: application, models, queue, cache
                                          └── Replica: …

Promises, each held by a test:

- a replica is the whole application of ``app.create_app``, run from start to drained stop;
- how much may wait is decided by the application, in tokens: Serve refuses nothing before it;
- replicas are added and removed by the tokens that wait for the devices;
- a replica that cannot score fails its health check, and Serve puts another one in its place;
- what no replica answered, because one died with it or none is there, gets a 503 that clients
  repeat, as scoring changes nothing;
- administration, which would reach one replica of several, is refused.

Importing this needs neither ray nor torch: Serve's controller and proxies import it too.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

import structlog
from pydantic import Field, model_validator
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.settings import check
from reward_server.access import ADMIN, Keyring, check_binding
from reward_server.config import RewardServerConfig
from reward_server.errors import DeviceFailed, RewardServerError, ServerStartError
from reward_server.problems import problem_response
from reward_server.server import bind as bind_socket
from reward_server.server import configure_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

PROG = "python -m reward_server.ray_serve"
APPLICATION = "reward"
REPLICA_HEADER = "x-replica"
REQUEST_ID_HEADER = "x-request-id"
PENDING_TOKENS = "pending_tokens"

MAX_ONGOING_REQUESTS = 100_000
"""Requests of one replica as Serve counts them: more than fit into any queue of tokens."""

HEALTH_SECONDS = 1.0
"""Between two looks at a replica. Serve replaces one at the third failure, and until then its quick
503s draw more than their share of the requests."""

HEALTH_TIMEOUT_SECONDS = 30.0
CONSTRUCTOR_ATTEMPTS = 3

LOOK_BACK_SECONDS = 30.0
"""Span over which waiting tokens are averaged; above Serve's ten seconds between two reports."""

DELETE_MARGIN_SECONDS = 15.0
"""What Serve may take beyond a replica's own time to drain."""

RAY_OPTIONS = {
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,  # requests do not pass through it
    "log_to_driver": False,
    "logging_level": "ERROR",
}
QUIET = {"log_level": "WARNING", "enable_access_log": False}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "reward_server.ray_serve:front",
}
"""What Ray's processes must find in their environment; with ``ray start``, every node's."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class ScaleOutConfig(RewardServerConfig):
    """A reward server in several processes. Limits and caches are those of each process."""

    # Described in place: of a module that runs as a program pydantic does not find the docstrings.
    min_replicas: int = Field(default=1, ge=1, description="Replicas that are always there.")
    max_replicas: int = Field(default=1, ge=1, description="Replicas at most.")
    target_pending_tokens: int = Field(
        default=65_536,
        ge=1,
        description="Waiting tokens a replica at which the number of replicas is right: tokens a "
        "second of one, times the seconds that a request may wait.",
    )
    replica_cpus: float = Field(
        default=1.0,
        gt=0,
        description="CPUs that a replica takes of Ray's count; also the threads of its device.",
    )
    replica_gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs that a replica takes of Ray's count; 0.5 puts two on one.",
    )
    upscale_delay_seconds: float = Field(
        default=10.0, ge=0, description="How long more replicas must be wanted before they come."
    )
    downscale_delay_seconds: float = Field(
        default=300.0, ge=0, description="How long fewer must be wanted before a replica goes."
    )
    surge_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="Replicas that a redeploy starts beyond their number, at least one; with 0 an "
        "old one leaves first, where there is no room for both.",
    )

    @model_validator(mode="after")
    def _can_scale(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas: {self.max_replicas} is below min_replicas {self.min_replicas}; "
                "raise it"
            )
        if self.target_pending_tokens >= self.max_pending_tokens:
            raise ValueError(
                f"target_pending_tokens: {self.target_pending_tokens} never waits, since requests "
                f"are refused at max_pending_tokens {self.max_pending_tokens}; lower it"
            )
        return self


class AdminIsPerProcess(RewardServerError):
    """An administrative request would change one replica of several."""

    status, code, title = 409, "admin_is_per_process", "The replicas are administered together"


class NoReplicaAnswered(RewardServerError):
    """The replica died with the request, or none is there yet."""

    status, code, title, retryable = 503, "no_replica_answered", "No replica answered", True


class Named:
    """Puts the name of the replica on its answers."""

    def __init__(self, app: ASGIApp, *, replica: str) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REPLICA_HEADER] = self._replica
            await send(message)

        await self._app(scope, receive, send_with_name)


class WithoutAdmin:
    """Answers 409 where one process would be administered and the others not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{ADMIN}/"):
            await self._app(scope, receive, send)
            return
        error = AdminIsPerProcess(
            f"{scope['path']}: would change one replica only; change the settings and deploy again"
        )
        await problem_response(Request(scope), error)(scope, receive, send)


class Front:
    """Stands before Serve's proxy and answers what no replica did.

    Serve says 500 for a request whose replica died, which clients must not repeat blindly, and 404
    while no application is there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/-/"):  # Serve's own routes
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_replicas(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_answered = REPLICA_HEADER in headers
                # The proxy adds the name that it knows to the one that the application gave.
                for request_id in headers.getlist(REQUEST_ID_HEADER)[:1]:
                    headers[REQUEST_ID_HEADER] = request_id
            if is_answered:
                await send(message)

        await self._app(scope, receive, send_replicas)
        if not is_answered:
            await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = Headers(scope=scope).get(REQUEST_ID_HEADER, "unnamed")
    scope.setdefault("state", {})["request_id"] = request_id
    error = NoReplicaAnswered("it died meanwhile or is not there yet; send the request again")
    response = problem_response(Request(scope), error)
    response.headers[REQUEST_ID_HEADER] = request_id
    await response(scope, receive, send)


def front() -> list[Middleware]:
    """What Serve's proxies call for middleware of ours."""
    return [Middleware(Front)]


class PendingTokens:
    """Autoscaling policy: so many replicas that ``target`` tokens wait at each.

    Serve calls it several times a second, keeps the answer within the limits and delays it.
    """

    def __init__(self, target: int) -> None:
        self._target = target

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The wanted number of replicas, and no state.

        Args:
            context: ray.serve.config.AutoscalingContext.
        """
        reported: Mapping[Any, float] = context.aggregated_metrics.get(PENDING_TOKENS, {})
        if not reported:  # the first replicas have not told anything yet
            return context.target_num_replicas, {}
        return sum(reported.values()) / self._target, {}


class Replica:
    """One process: the application, and what Serve wants to know of it."""

    def __init__(self, config: ScaleOutConfig, *, name: str | None = None) -> None:
        self._config = config
        self._name = name or _replica_name()

    def __serve_build_asgi_app__(self) -> FastAPI:
        from reward_server.app import create_app  # noqa: PLC0415  # torch belongs here alone

        configure_logging()
        config = own_files(self._config, replica=self._name)
        self._app = create_app(config, on_device_failure=_log_failure)
        self._app.add_middleware(Named, replica=self._name)
        # Innermost, so that keys, request ids and counters come before it.
        self._app.user_middleware.append(Middleware(WithoutAdmin))
        return self._app

    async def check_health(self) -> None:
        """Raises what makes Serve replace this replica.

        Raises:
            DeviceFailed: if a model would not score a request.
        """
        if not self._app.state.server.registry.is_ready:
            raise DeviceFailed("a model does not score; see the log")

    async def record_autoscaling_stats(self) -> dict[str, int]:
        """Tokens that wait for this process's devices."""
        return {PENDING_TOKENS: pending_tokens(self._app)}


def _replica_name() -> str:
    from ray import serve  # noqa: PLC0415  # only where Serve runs

    return str(serve.get_replica_context().replica_id.unique_id)


def _log_failure(error: BaseException) -> None:
    log.error("device.failed", exc_info=error)


def pending_tokens(app: FastAPI) -> int:
    """Tokens admitted by an application's models and not yet computed."""
    scorers = [served.scorer for served in app.state.server.registry.all()]
    pipelines = [pipeline for scorer in scorers for pipeline in _pipelines(scorer)]
    return sum(pipeline.batcher.pending_tokens for pipeline in pipelines)


def _pipelines(scorer: Any) -> Sequence[Any]:
    """Those of a scorer with models of its own; an ensemble's belong to its members."""
    if hasattr(scorer, "pipelines"):
        return tuple(scorer.pipelines)
    return (scorer.pipeline,) if hasattr(scorer, "pipeline") else ()


def own_files(config: ScaleOutConfig, *, replica: str) -> ScaleOutConfig:
    """The settings of one replica: an audit log has one writer."""
    if config.audit is None:
        return config
    audit = config.audit.with_stem(f"{config.audit.stem}-{replica}")
    return config.model_copy(update={"audit": audit})


def bind(config: ScaleOutConfig) -> Any:
    """The Serve application for ``config``, to be given to ``ray.serve.run``.

    Raises:
        ServerStartError: if Ray Serve is not installed.
    """
    serve = _import_serve()
    deployment = serve.deployment(
        serve.ingress()(Replica),
        ray_actor_options={"num_cpus": config.replica_cpus, "num_gpus": config.replica_gpus},
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        autoscaling_config={
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "upscale_delay_s": config.upscale_delay_seconds,
            "downscale_delay_s": config.downscale_delay_seconds,
            "look_back_period_s": LOOK_BACK_SECONDS,
            "policy": {
                "policy_function": "reward_server.ray_serve:PendingTokens",
                "policy_kwargs": {"target": config.target_pending_tokens},
            },
        },
        graceful_shutdown_timeout_s=config.drain_seconds,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        max_constructor_retry_count=CONSTRUCTOR_ATTEMPTS,
        max_surge_percent=config.surge_percent,
        logging_config=QUIET,
    )
    return deployment.bind(config)


def build(arguments: dict[str, Any]) -> Any:
    """The Serve application for plain settings: what a Serve config file names.

    Raises:
        SettingsError: one line naming the setting, its value and the fix.
    """
    return bind(check(ScaleOutConfig, arguments, source="arguments"))


def _import_serve() -> Any:
    try:
        from ray import serve  # noqa: PLC0415  # seconds, and not every machine has it
    except ImportError as error:
        raise ServerStartError(
            f"ray: Ray Serve cannot be imported ({error}); install ray[serve]"
        ) from None
    return serve


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
    _import_serve()
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
        _import_serve().start(
            http_options={"host": config.host, "port": port}, logging_config=QUIET
        )
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
    serve = _import_serve()
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
    serve = _import_serve()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            serve.delete(APPLICATION)
            return
        except TimeoutError:  # Serve itself waits for a minute
            continue
    log.error("server.not_drained", seconds=seconds)


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Runs the server; returns 0 when it was asked to stop, 2 on bad usage or a failed start."""
    parser = Parser(
        prog,
        "Serve reward models in several processes on Ray Serve. SIGTERM or Ctrl-C answers what was "
        "admitted; SIGHUP reads the settings again and replaces the replicas one by one.",
        examples=f"""  {prog} --model runs/quickstart-1/reward_model --max-replicas 2
  {prog} --model PATH --min-replicas 2 --max-replicas 8 --replica-gpus 1
  {prog} --config server.toml --target-pending-tokens 100000
  serve run reward_server.ray_serve:build model=/models/reward max_replicas=8   # on a cluster""",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with these settings and [models.NAME] tables; flags go before it.",
    )
    add_settings(parser, ScaleOutConfig)
    options = parser.parse_args(arguments)

    def read() -> ScaleOutConfig:
        return read_settings(ScaleOutConfig, options, file=options.config)

    try:
        return run(read(), read)
    except UserError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return 2


if __name__ == "__main__":
    # Under its own name, by which the replicas find what is deployed.
    from reward_server.ray_serve import main as main_of_module

    sys.exit(main_of_module())
