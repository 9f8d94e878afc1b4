"""Scoring in this process, without a server: for training's held-out pairs and for benchmarks.

The same renderer, engine and planning as the server's, on the calling thread. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_server.batcher import Engine
from reward_server.engine.build import Source, build_classifier
from reward_server.engine.choice import choose_engine
from reward_server.engine.loading import BATCH_TOKENS, resolve_max_length
from reward_server.engine.padded import PaddedEngine, backbone_forward
from reward_server.engine.readout import LastToken
from reward_server.planner import Item, Job, Planner
from reward_server.protocol import GroupResult, ModelInfo, OnOverflow, ScoreGroup
from reward_server.scorers.sequence_classification import check_one_label
from reward_server.scorers.token import Reading, finite, result
from reward_server.specs import TransformerSpec
from reward_server.tokens import Labels, TokenInput, distinct

__all__ = ["BATCH_TOKENS", "LocalEngine", "LocalScorer"]


class LocalEngine:
    """An engine with its batches planned: any number of inputs, one after another batch."""

    def __init__(self, engine: Engine, *, batch_tokens: int) -> None:
        self._engine = engine
        self._batch_tokens = batch_tokens

    @classmethod
    def load(cls, folder: Path, spec: TransformerSpec) -> LocalEngine:
        """The engine of a reward model's folder.

        Raises:
            ServerStartError: naming what of it cannot be used, and the fix.
        """
        built = build_classifier("local", Source(folder), spec, "sequence_classification")
        return cls(built.engine, batch_tokens=built.batch_tokens)

    @classmethod
    def around(cls, model: Any, spec: TransformerSpec) -> LocalEngine:
        """The engine of a sequence classification model that is built already."""
        readout = LastToken(model.score.weight, model.score.bias)
        if spec.deterministic:
            forward = backbone_forward(model.base_model, readout)
            alone = PaddedEngine(forward, device=model.device, max_batch_tokens=1)
            return cls(alone, batch_tokens=1)
        batch_tokens = spec.max_batch_tokens or BATCH_TOKENS[model.device.type]
        chosen = choose_engine(
            model.base_model,
            readout,
            spec.engine,
            max_length=resolve_max_length(spec.max_length, model.config),
            batch_tokens=batch_tokens,
            kernels=spec.kernels,
        )
        return cls(chosen.engine, batch_tokens=batch_tokens)

    @property
    def name(self) -> str:
        """``packed`` or ``padded``."""
        return self._engine.name

    def score_ids(self, inputs: Sequence[Sequence[int]]) -> list[Labels]:
        """The head's numbers of inputs given as token ids, in order."""
        return self.score_inputs([TokenInput(tuple(ids)) for ids in inputs])

    def score_inputs(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        """The head's numbers of inputs, in order; equal inputs are computed once."""
        once, places = distinct(inputs)
        found = self._score_distinct(once)
        return [found[place] for place in places]

    def _score_distinct(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        order, costs = self._engine.order(inputs)
        planner = Planner(max_pending_tokens=1, patience=1.0)
        planner.admit(
            Job.of(Item(i, cost, len(inputs[i].ids)) for i, cost in zip(order, costs, strict=True)),
            now=0.0,
        )
        labels: list[Labels] = [()] * len(inputs)
        while batch := planner.take(self._batch_tokens, now=0.0):
            members = [taken.item.index for taken in batch]
            found = self._engine.forward([inputs[index] for index in members])
            for index, each in zip(members, found, strict=True):
                labels[index] = each
        return labels


class LocalScorer:
    """Rewards of a sequence classification model, in this process."""

    def __init__(self, folder: Path, spec: TransformerSpec) -> None:
        built = build_classifier("local", Source(folder), spec, "sequence_classification")
        check_one_label(built.info)
        self._engine = LocalEngine(built.engine, batch_tokens=built.batch_tokens)
        self._renderer = built.new_renderer()
        self.info: ModelInfo = built.info

    def score(
        self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow = "error"
    ) -> list[GroupResult]:
        """Rewards of all candidates, in order.

        Raises:
            RewardServerError: if a group cannot be scored.
        """
        rendered = [self._renderer.render(group, on_overflow=on_overflow) for group in groups]
        inputs = [item for group in rendered for item in group]
        labels = iter(self._engine.score_inputs(inputs))
        return [
            GroupResult(
                id=group.id,
                results=tuple(result(item, finite(Reading(next(labels)[0]))) for item in items),
            )
            for group, items in zip(groups, rendered, strict=True)
        ]
