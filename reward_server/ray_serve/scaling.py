"""How many replicas: by the tokens that wait for the devices, whatever the number of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

PENDING_TOKENS = "pending_tokens"
"""Under what name replicas tell theirs."""


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
