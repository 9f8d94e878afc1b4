"""What one application holds for as long as it runs."""

from __future__ import annotations

from dataclasses import dataclass

from reward_server.access import Keyring
from reward_server.config import RewardServerConfig
from reward_server.metrics import Metrics
from reward_server.registry import Registry
from reward_server.service import Service
from reward_server.swap import Swapper


@dataclass(slots=True)
class ServerState:
    """The parts of a server, put together by ``app.create_app``."""

    config: RewardServerConfig
    keyring: Keyring
    registry: Registry
    metrics: Metrics
    swapper: Swapper
    service: Service
    is_draining: bool = False
    """Whether the server is going down and takes no new requests."""
