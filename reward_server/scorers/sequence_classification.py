"""Sequence classification: the raw logit of a Bradley-Terry head at the last token."""

from __future__ import annotations

from reward_server.errors import ServerStartError
from reward_server.protocol import ModelInfo
from reward_server.scorers.token import HeadScorer


class SequenceClassificationScorer(HeadScorer):
    """The reward is the model's one logit, neither squashed nor scaled."""


def check_one_label(info: ModelInfo) -> None:
    """Refuses a head of several logits.

    Raises:
        ServerStartError: naming the two fixes.
    """
    head = info.identity.head
    assert head is not None
    if head.num_labels != 1:
        raise ServerStartError(
            f"model: {info.name} has {head.num_labels} labels and a reward has 1; give a model "
            'trained with num_labels=1, or weigh its labels with kind = "multi_objective"'
        )
