"""Bradley-Terry training of a reward model, and an honest measure of what it learned.

TRL's trainer on a sequence classification model with one output, which starts from the weights of
a language model. The folder it leaves is what the reward server loads: weights, tokenizer, template
and ``reward_metrics.json``. Held-out rewards come from the server's own scorer; beside them stands
what the rule "the longer answer wins" achieves, since a reward model that is hardly better has
learned length. Knows nothing of who made the pairs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    set_seed,
)
from trl import RewardConfig, RewardTrainer

from corpora.preference import Pair
from corpora.world import RewardPairs
from foundation.training import (
    OnProgress,
    TrainingDiverged,
    attention,
    fit,
    require,
    require_model,
    silence_libraries,
    trainer_arguments,
    whole_folder,
)
from reward_server.local import LocalScorer
from reward_server.protocol import GroupResult, ScoreGroup
from reward_server.specs import TransformerSpec
from reward_server.training_config import RewardTrainingConfig

METRICS_FILE = "reward_metrics.json"


@dataclass(frozen=True, slots=True)
class RewardTrainingResult:
    """What was trained, and what it is worth on pairs whose questions it never saw.

    Accuracies count a tie as half; ``None`` where nothing was held out.
    """

    steps: int
    train_pairs: int
    """Pairs trained on; those longer than the limit are left out."""

    heldout_pairs: int
    heldout_accuracy: float | None
    length_only_accuracy: float | None
    """Accuracy of "the answer with more characters wins" on the held-out pairs."""

    mean_margin: float | None
    """Mean raw reward of the chosen minus that of the rejected, over the held-out pairs."""

    seconds: float


def train_reward_model(
    base: str | Path,
    pairs: RewardPairs,
    config: RewardTrainingConfig,
    output: Path,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
) -> RewardTrainingResult:
    """Trains a reward model and saves it with its metrics.

    Args:
        base: folder or hub name of the model to start from; its tokenizer has a chat template.
        pairs: to learn from, and to measure on.
        config: how to train.
        output: the folder to write, whole or not at all; must not exist.
        seed: of the reward head and of the data order.
        on_progress: called after every optimizer step.

    Raises:
        TrainingError: if the base, the pairs or the output cannot be used.
        TrainingDiverged: if the loss stops being a number.
    """
    started = time.monotonic()
    if isinstance(base, Path):
        require_model(base, "base")
    require(pairs.train, "pairs.train")
    silence_libraries()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with whole_folder(output) as folder:
        trainer = _trainer(base, tokenizer, pairs.train, config, folder, seed)
        fit(trainer, on_progress)
        trainer.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        margins = heldout_margins(folder, pairs.heldout)
        result = RewardTrainingResult(
            steps=trainer.state.global_step,
            train_pairs=len(trainer.train_dataset),
            heldout_pairs=len(pairs.heldout),
            heldout_accuracy=accuracy(margins),
            length_only_accuracy=length_only_accuracy(pairs.heldout),
            mean_margin=sum(margins) / len(margins) if margins else None,
            seconds=time.monotonic() - started,
        )
        metrics = json.dumps(asdict(result), indent=2)
        (folder / METRICS_FILE).write_text(metrics + "\n", encoding="utf-8")
    return result


def heldout_margins(folder: Path, pairs: Sequence[Pair]) -> list[float]:
    """The reward of the chosen minus that of the rejected, as the server gives them in float32."""
    if not pairs:
        return []
    scorer = LocalScorer(folder, TransformerSpec(model=str(folder), dtype="float32"))
    groups = [
        ScoreGroup.of(str(index), pair.conversation, (pair.chosen, pair.rejected))
        for index, pair in enumerate(pairs)
    ]
    return [_margin(group) for group in scorer.score(groups, on_overflow="truncate")]


def accuracy(margins: Sequence[float]) -> float | None:
    """Part of the margins above zero, zero counting as half; ``None`` without margins."""
    if not margins:
        return None
    wins = sum(margin > 0 for margin in margins)
    ties = sum(margin == 0 for margin in margins)
    return (wins + 0.5 * ties) / len(margins)


def length_only_accuracy(pairs: Sequence[Pair]) -> float | None:
    """Accuracy of the rule that the answer with more characters is the better one."""
    return accuracy([len(pair.chosen) - len(pair.rejected) for pair in pairs])


def _margin(group: GroupResult) -> float:
    chosen, rejected = (result.reward for result in group.results)
    if chosen is None or rejected is None:
        raise TrainingDiverged(f"held-out pair {group.id}: a reward is not a number")
    return chosen - rejected


def _trainer(
    base: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: RewardTrainingConfig,
    folder: Path,
    seed: int,
) -> RewardTrainer:
    set_seed(seed)  # the head's weights are random
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, dtype=torch.float32, attn_implementation=attention()
    )
    arguments = RewardConfig(
        **trainer_arguments(config, folder=folder, seed=seed),
        max_length=config.max_length_tokens,
        center_rewards_coefficient=config.centering or None,
    )
    return RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([_row(pair) for pair in pairs]),
        processing_class=tokenizer,
    )


def _row(pair: Pair) -> dict[str, Any]:
    """Without the pair's ``margin``: TRL would subtract a column of that name inside the loss."""
    row = pair.to_trl()
    return {field: row[field] for field in ("prompt", "chosen", "rejected")}
