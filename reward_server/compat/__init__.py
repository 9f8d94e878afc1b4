"""Foreign wire formats: the same rewards for clients of other reward servers.

One file a wire; each names its peer, the version that its fields were checked against, and what
the wire squashes or cannot say. ``docs/wires.md`` has the configuration line of every client.
"""

from __future__ import annotations

from reward_server.compat import (
    kserve,
    llama_factory,
    nim,
    oat,
    openrlhf,
    rerank,
    sglang,
    slime,
    tei,
    vllm,
)

ROUTERS = (
    openrlhf.router,
    vllm.router,
    rerank.router,
    tei.router,
    llama_factory.router,
    slime.router,
    nim.router,
    kserve.router,
    oat.router,
    sglang.router,
)
"""The routes of all wires, for ``FastAPI.include_router``."""

__all__ = ["ROUTERS"]
