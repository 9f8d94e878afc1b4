"""A real server whose engine breaks when it meets a word: ``python -m …faults.broken``.

What happens to the engine is put between it and its batcher here, so the server needs no switch
for it. ``{"fault": "raise"}`` makes the engine raise something unforeseen at ``TRIGGER``;
``{"fault": "memory", "inputs": 2}`` lets it run out of memory above two inputs, and at
``TRIGGER`` however small the batch is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from reward_server.app import create_app
from reward_server.batcher import Engine
from reward_server.cache import RewardCache
from reward_server.config import RewardServerConfig
from reward_server.errors import DeviceOutOfMemory
from reward_server.loading import Resources, load_scorer
from reward_server.protocol import EngineName
from reward_server.scorers.token import HeadScorer
from reward_server.server import _Failure, bind, configure_logging, listen, run
from reward_server.tokens import Labels, TokenInput

TRIGGER = "¤"


class BrokenEngine:
    """Another engine, until it meets the trigger's ids."""

    def __init__(self, engine: Engine, trigger: tuple[int, ...], fault: dict[str, Any]) -> None:
        self._engine = engine
        self._trigger = trigger
        self._is_unforeseen = fault["fault"] == "raise"
        self._most_inputs: int = fault.get("inputs", sys.maxsize)

    @property
    def name(self) -> EngineName:
        return self._engine.name

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        return self._engine.order(inputs)

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        is_met = any(self._holds_trigger(each) for each in inputs)
        if is_met and self._is_unforeseen:
            raise RuntimeError("the device is gone")
        if is_met or len(inputs) > self._most_inputs:
            raise DeviceOutOfMemory(f"no room for {len(inputs)} inputs")
        return self._engine.forward(inputs)

    def _holds_trigger(self, given: TokenInput) -> bool:
        width = len(self._trigger)
        starts = range(len(given.ids) - width + 1)
        return any(given.ids[start : start + width] == self._trigger for start in starts)


def main(content: dict[str, Any], fault: dict[str, Any]) -> int:
    configure_logging()
    config = RewardServerConfig.model_validate(content)
    failure = _Failure()
    resources = Resources(
        RewardCache(0), config.max_pending_tokens, config.bulk_patience_seconds, failure.happened
    )
    scorer = load_scorer("default", config.specs()["default"], resources, {})
    assert isinstance(scorer, HeadScorer)
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    trigger = tuple(tokenizer.encode(TRIGGER, add_special_tokens=False))
    batcher = scorer.pipeline.batcher
    batcher.engine = BrokenEngine(batcher.engine, trigger, fault)
    with bind(config.host, 0) as listener:
        app = create_app(config, scorer, on_device_failure=failure.happened)
        listen(listener)
        return run(app, config, listener, failure)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), json.loads(sys.argv[2])))
