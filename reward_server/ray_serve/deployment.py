"""The Serve application for given settings."""

from __future__ import annotations

from typing import Any

from foundation.settings import check
from reward_server.errors import ServerStartError
from reward_server.ray_serve.replica import Replica
from reward_server.ray_serve.settings import ScaleOutConfig

MAX_ONGOING_REQUESTS = 100_000
"""Requests of one replica as Serve counts them: more than fit into any queue of tokens."""

HEALTH_SECONDS = 1.0
"""Between two looks at a replica. Serve replaces one at the third failure, and until then its quick
503s draw more than their share of the requests."""

HEALTH_TIMEOUT_SECONDS = 30.0
CONSTRUCTOR_ATTEMPTS = 3

LOOK_BACK_SECONDS = 30.0
"""Span over which waiting tokens are averaged; above Serve's ten seconds between two reports."""

QUIET = {"log_level": "WARNING", "enable_access_log": False}


def bind(config: ScaleOutConfig) -> Any:
    """The Serve application for ``config``, to be given to ``ray.serve.run``.

    Raises:
        ServerStartError: if Ray Serve is not installed.
    """
    serve = import_serve()
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


def import_serve() -> Any:
    """Ray Serve, imported late: it takes seconds, and not every machine has it.

    Raises:
        ServerStartError: if it is not installed.
    """
    try:
        from ray import serve  # noqa: PLC0415
    except ImportError as error:
        raise ServerStartError(
            f"ray: Ray Serve cannot be imported ({error}); install ray[serve]"
        ) from None
    return serve
