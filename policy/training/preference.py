"""Preference training: DPO and its relatives, and KTO, on a LoRA adapter over a fixed base.

A round continues from the last promoted adapter, but is held to the *base*: with LoRA that is the
same weights with the adapter off, so there is no second model and the distance from the base means
the same in every round. TRL would do otherwise: a model that arrives with a trained adapter gets a
frozen copy of it as the reference. So TRL is given the bare base and a fresh adapter, and the
trained weights are put in afterwards.

The result is a standard adapter folder with canaries beside it. Knows nothing of rounds or servers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from corpora.preference import Pair
from foundation.training import (
    OnProgress,
    attention,
    closing_mean,
    fit,
    require,
    require_model,
    silence_libraries,
    trainer_arguments,
    whole_folder,
)
from policy.deploy import write_canaries
from policy.training.adapters import (
    TRAINED,
    check_adapter,
    freeze_as_reference,
    load_adapter,
    lora_config,
)
from policy.training.canaries import record_canaries
from policy.training.config import PreferenceConfig

PairTrainer: TypeAlias = DPOTrainer | KTOTrainer


@dataclass(frozen=True, slots=True)
class PreferenceResult:
    """What a training did. Implicit rewards are ``beta · (log π - log π_ref)`` in nats.

    Values with ``last`` in their name, accuracy and margin are means over the last tenth of the
    steps, measured on training batches.
    """

    steps: int
    pairs: int
    """Pairs trained on; those whose conversation alone fills the limit are left out."""

    first_loss: float
    last_loss: float
    first_chosen_reward: float
    """Mean implicit reward of the first batch's chosen responses, before any update."""

    first_rejected_reward: float
    """The same of the rejected ones."""

    reward_accuracy: float | None
    """How often the chosen response has the higher implicit reward; not measured with KTO."""

    reward_margin: float
    seconds: float

    @property
    def first_step_reference_gap(self) -> float:
        """How far the policy was from the reference at the start: zero for a fresh adapter."""
        return max(abs(self.first_chosen_reward), abs(self.first_rejected_reward))


class PreferenceTrainer:
    """Trains adapters over one base, which stays in memory from round to round."""

    def __init__(self, base: Path, config: PreferenceConfig) -> None:
        """Loads the base's tokenizer; its weights follow with the first training.

        Args:
            base: folder of the fixed base model; its tokenizer has a chat template.
            config: how to train.

        Raises:
            TrainingError: if ``base`` is not the folder of a model.
        """
        require_model(base, "base")
        silence_libraries()
        self._path = base
        self._config = config
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._base: PreTrainedModel | None = None

    def train(
        self,
        pairs: Sequence[Pair],
        *,
        adapter: Path | None,
        output: Path,
        seed: int,
        on_progress: OnProgress | None = None,
    ) -> PreferenceResult:
        """Trains one adapter.

        Args:
            pairs: the preferences.
            adapter: folder of the adapter to continue from; a fresh one by default.
            output: the folder to write, whole or not at all; must not exist.
            seed: of the fresh adapter and of the data order.
            on_progress: called after every optimizer step.

        Raises:
            TrainingError: if the pairs or a path cannot be used, or the adapter does not fit.
            TrainingDiverged: if the loss stops being a number.
        """
        started = time.monotonic()
        require(pairs, "pairs")
        if adapter:
            check_adapter(adapter, self._config.lora)
        with whole_folder(output) as folder:
            trainer = self._trainer(pairs, folder, seed)
            if adapter:
                self._continue_from(adapter, trainer.model)
            history = fit(trainer, on_progress)
            self._save(trainer, folder)
        self._base = _undress(trainer.model)
        return _result(trainer, history, seconds=time.monotonic() - started)

    def _take_base(self) -> PreTrainedModel:
        """The bare base, given away: a training that fails must not leave it half dressed."""
        base, self._base = self._base, None
        return base or AutoModelForCausalLM.from_pretrained(
            self._path, dtype=torch.float32, attn_implementation=attention()
        )

    def _trainer(self, pairs: Sequence[Pair], folder: Path, seed: int) -> PairTrainer:
        arguments = trainer_arguments(self._config, folder=folder, seed=seed)
        arguments |= {"max_length": self._config.max_length_tokens, "beta": self._config.beta}
        build = _kto_trainer if self._config.loss == "kto" else _dpo_trainer
        trainer: PairTrainer = build(
            self._config,
            arguments,
            pairs,
            model=self._take_base(),
            processing_class=self._tokenizer,
            peft_config=lora_config(self._config.lora),
        )
        return trainer

    def _continue_from(self, adapter: Path, model: PeftModel) -> None:
        load_adapter(model, adapter)
        if self._config.reference == "previous":
            freeze_as_reference(model, adapter)

    def _save(self, trainer: PairTrainer, folder: Path) -> None:
        model = trainer.model
        model.save_pretrained(folder, selected_adapters=[TRAINED], save_embedding_layers=False)
        (folder / "README.md").unlink()  # PEFT's form for a model card, not filled in
        write_canaries(folder, record_canaries(model, trainer.train_dataset, self._config.canaries))


def _dpo_trainer(
    config: PreferenceConfig, arguments: dict[str, Any], pairs: Sequence[Pair], **parts: Any
) -> DPOTrainer:
    losses: dict[str, float] = {config.loss: 1.0}
    if config.imitation_weight:
        losses["sft"] = config.imitation_weight
    return DPOTrainer(
        args=DPOConfig(
            **arguments,
            loss_type=list(losses),
            loss_weights=list(losses.values()),
            label_smoothing=config.label_smoothing,
        ),
        train_dataset=Dataset.from_list([_paired(pair) for pair in pairs]),
        **parts,
    )


def _kto_trainer(
    config: PreferenceConfig, arguments: dict[str, Any], pairs: Sequence[Pair], **parts: Any
) -> KTOTrainer:
    """KTO judges single responses: a pair is two rows, and as many pairs share a batch as in DPO.

    KTO's trainer reads rows in the given order and mixes the prompts of a batch for its estimate of
    the divergence, so the order must be random already, and mix good with bad.
    """
    rows = [row for pair in pairs for row in _unpaired(pair)]
    random.Random(arguments["seed"]).shuffle(rows)
    arguments |= {"per_device_train_batch_size": 2 * config.batch_size}
    return KTOTrainer(args=KTOConfig(**arguments), train_dataset=Dataset.from_list(rows), **parts)


def _paired(pair: Pair) -> dict[str, Any]:
    row = pair.to_trl()
    return {field: row[field] for field in ("prompt", "chosen", "rejected")}


def _unpaired(pair: Pair) -> list[dict[str, Any]]:
    row = _paired(pair)
    return [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": True},
        {"prompt": row["prompt"], "completion": row["rejected"], "label": False},
    ]


def _undress(model: PeftModel) -> PreTrainedModel:
    """The base as it came: without adapter layers, and without the forward that TRL gave it."""
    base: PreTrainedModel = model.unload()
    del base.forward
    return base


def _result(
    trainer: PairTrainer, history: Sequence[dict[str, float]], *, seconds: float
) -> PreferenceResult:
    rows_per_pair = 2 if isinstance(trainer, KTOTrainer) else 1
    first = history[0]
    measured = "rewards/accuracies" in first
    return PreferenceResult(
        steps=trainer.state.global_step,
        pairs=len(trainer.train_dataset) // rows_per_pair,
        first_loss=first["loss"],
        last_loss=closing_mean(history, "loss"),
        first_chosen_reward=first.get("rewards/chosen", 0.0),
        first_rejected_reward=first.get("rewards/rejected", 0.0),
        reward_accuracy=closing_mean(history, "rewards/accuracies") if measured else None,
        reward_margin=closing_mean(history, "rewards/margins"),
        seconds=seconds,
    )
