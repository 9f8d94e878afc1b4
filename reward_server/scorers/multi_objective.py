"""Multi-objective heads: several logits with names, weighed into one reward.

The reward is ``sum(weight[k] * logit[k])``; ``parts`` holds the logits. Weights are settings, so
they are part of the fingerprint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reward_server.errors import ServerStartError
from reward_server.pipeline import Pipeline
from reward_server.protocol import ModelInfo
from reward_server.scorers.token import HeadScorer, Reading
from reward_server.tokens import Labels


class MultiObjectiveScorer(HeadScorer):
    """A weighted sum of the head's logits."""

    def __init__(self, info: ModelInfo, pipeline: Pipeline, weights: Mapping[str, float]) -> None:
        super().__init__(info, pipeline)
        self._weights = dict(weights)

    def read(self, labels: Labels) -> Reading:
        parts = dict(zip(self._weights, labels, strict=True))
        return Reading(sum(self._weights[name] * parts[name] for name in parts), parts)


def resolve_weights(
    labels: Sequence[str], objectives: Sequence[str], weights: Mapping[str, float]
) -> dict[str, float]:
    """The weight of each logit, in the order of the head.

    Args:
        labels: names that the model gives its logits.
        objectives: other names for them; empty to keep the model's.
        weights: by name; empty to weigh all the same, with a sum of 1.

    Raises:
        ServerStartError: if names are too few, double, or weights name none of them or are no
            numbers.
    """
    names = list(objectives or labels)
    if len(names) != len(labels) or len(set(names)) != len(names):
        raise ServerStartError(
            f"objectives: {', '.join(names)}: the head has {len(labels)} logits; "
            "name each of them once"
        )
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise ServerStartError(
            f"weights: {', '.join(unknown)}: no such objective; known are {', '.join(names)}"
        )
    endless = sorted(name for name, weight in weights.items() if not math.isfinite(weight))
    if endless:
        raise ServerStartError(f"weights: {', '.join(endless)}: not finite; give numbers")
    if not weights:
        return dict.fromkeys(names, 1 / len(names))
    return {name: weights.get(name, 0.0) for name in names}
