"""One process of several: the whole application, and what Serve wants to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.middleware import Middleware

from reward_server.errors import DeviceFailed
from reward_server.ray_serve.proxy import Named, WithoutAdmin
from reward_server.ray_serve.scaling import PENDING_TOKENS, pending_tokens
from reward_server.ray_serve.settings import ScaleOutConfig
from reward_server.server import configure_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


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


def own_files(config: ScaleOutConfig, *, replica: str) -> ScaleOutConfig:
    """The settings of one replica: an audit log has one writer."""
    if config.audit is None:
        return config
    audit = config.audit.with_stem(f"{config.audit.stem}-{replica}")
    return config.model_copy(update={"audit": audit})
