"""Supervised fine-tuning: the policy learns to answer as the demonstrations do.

TRL's trainer in its conversational prompt-completion form: the tokenizer's own template renders,
and the loss is on the response with its end mark. Batches hold demonstrations of similar length,
so little is spent on padding and no demonstration sees another one. The result is a standard model
folder, adapters merged; it knows nothing of rewards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from corpora.world import Demonstration
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
from policy.training.adapters import lora_config
from policy.training.config import SftConfig


@dataclass(frozen=True, slots=True)
class SftResult:
    """``final_loss`` in nats per token, over the last tenth of the steps; ``tokens`` seen."""

    steps: int
    final_loss: float
    tokens: int
    seconds: float


class _NativeLossTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's trainer with the model's own loss in place of TRL's.

    The two give the same number. TRL's is made for large vocabularies on a GPU and computes the
    entropy of every token for its metrics; on a CPU that is 40 % of a small model's step.
    """

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        outputs = model(**inputs, use_cache=False, num_items_in_batch=num_items_in_batch)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def train_sft(
    model: Path,
    demonstrations: Sequence[Demonstration],
    config: SftConfig,
    output: Path,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
) -> SftResult:
    """Fine-tunes a model and saves it with its tokenizer.

    Args:
        model: folder of the model to start from; its tokenizer has a chat template.
        demonstrations: what to imitate.
        config: how to train.
        output: the folder to write, whole or not at all; must not exist.
        seed: of the data order; equal seeds give equal weights on one machine.
        on_progress: called after every optimizer step.

    Raises:
        TrainingError: if a path or the data cannot be used.
        TrainingDiverged: if the loss stops being a number.
    """
    started = time.monotonic()
    require_model(model, "model")
    require(demonstrations, "demonstrations")
    silence_libraries()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with whole_folder(output) as folder:
        trainer = _trainer(model, tokenizer, demonstrations, config, folder, seed)
        history = fit(trainer, on_progress)
        _save(trainer, tokenizer, folder)
    return SftResult(
        steps=trainer.state.global_step,
        final_loss=closing_mean(history, "loss"),
        tokens=int(trainer.state.num_input_tokens_seen),
        seconds=time.monotonic() - started,
    )


def _trainer(
    model: Path,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    config: SftConfig,
    folder: Path,
    seed: int,
) -> SFTTrainer:
    arguments = SFTConfig(
        **trainer_arguments(config, folder=folder, seed=seed),
        max_length=config.max_length_tokens,
        completion_only_loss=config.loss_on == "response",
        train_sampling_strategy="group_by_length",
        include_num_input_tokens_seen="non_padding",
    )
    return _NativeLossTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation=attention()
        ),
        args=arguments,
        train_dataset=Dataset.from_list([_row(item) for item in demonstrations]),
        processing_class=tokenizer,
        peft_config=lora_config(config.lora) if config.lora else None,
    )


def _row(demonstration: Demonstration) -> dict[str, Any]:
    return {
        "prompt": demonstration.conversation.to_dicts(),
        "completion": [{"role": "assistant", "content": demonstration.response}],
    }


def _save(trainer: SFTTrainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model = trainer.model
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
