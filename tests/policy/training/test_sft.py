from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTTrainer

from corpora.conversation import Conversation
from corpora.world import Demonstration
from foundation.progress import TrainingProgress
from foundation.training import TrainingDiverged, TrainingError
from policy.training import sft
from policy.training.config import LoraSettings, SftConfig
from policy.training.sft import train_sft

Demonstrations = list[Demonstration]
QUICK = SftConfig(epochs=1, batch_size=8, learning_rate=3e-3, precision="float32")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def is_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_training_lowers_the_loss_and_reports_every_step(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    seen: list[TrainingProgress] = []
    config = QUICK.model_copy(update={"epochs": 10.0})
    result = train_sft(
        base, demonstrations, config, tmp_path / "sft", seed=0, on_progress=seen.append
    )
    assert [progress.step for progress in seen] == list(range(1, result.steps + 1))
    assert {progress.total_steps for progress in seen} == {result.steps}
    assert result.final_loss < 0.8 * seen[0].loss
    assert result.tokens > 0


def test_the_trained_folder_loads_and_answers(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    train_sft(base, demonstrations, QUICK, tmp_path / "sft", seed=0)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "sft")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "sft")
    prompt = tokenizer.apply_chat_template(
        Conversation.ask("What helps a cold?").to_dicts(),
        add_generation_prompt=True,
        return_tensors="pt",
    )
    assert model.generate(**prompt, max_new_tokens=4).shape[1] <= prompt["input_ids"].shape[1] + 4
    assert not is_equal(weights(base), weights(tmp_path / "sft"))


@pytest.mark.parametrize("loss_on", ["response", "everything"])
def test_the_loss_is_the_one_that_trl_computes(
    base: Path, tmp_path: Path, demonstrations: Demonstrations, loss_on: str
) -> None:
    config = SftConfig(loss_on=loss_on, precision="float32")  # type: ignore[arg-type]
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = sft._trainer(base, tokenizer, demonstrations, config, tmp_path, 0)
    batch = next(iter(trainer.get_train_dataloader()))
    learned = (batch["labels"] != -100).sum()
    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=learned)
    theirs = SFTTrainer.compute_loss(
        trainer, trainer.model, dict(batch), num_items_in_batch=learned
    )
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_only_the_response_and_its_end_are_learned(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = sft._trainer(base, tokenizer, demonstrations, SftConfig(), tmp_path, 0)
    row = trainer.train_dataset[0]
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == demonstrations[0].response + "<|end|>"
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1


def test_adapters_are_merged_into_a_plain_folder(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    config = QUICK.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    train_sft(base, demonstrations, config, tmp_path / "sft", seed=0)
    before, after = weights(base), weights(tmp_path / "sft")
    assert before.keys() == after.keys()
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    projection = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[projection], after[projection])


def test_equal_seeds_give_equal_weights(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    for name in ("one", "two"):
        train_sft(base, demonstrations, QUICK, tmp_path / name, seed=7)
    assert is_equal(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_a_crash_on_the_way_leaves_nothing_behind(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    def crash(progress: TrainingProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(base, demonstrations, QUICK, tmp_path / "sft", seed=0, on_progress=crash)
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_training_stops_and_leaves_nothing_behind(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    config = QUICK.model_copy(update={"learning_rate": 1e38, "warmup_fraction": 0.0})
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        train_sft(base, demonstrations, config, tmp_path / "sft", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line_that_names_the_field(
    base: Path, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    with pytest.raises(TrainingError, match=r"^model: .* has no config.json"):
        train_sft(tmp_path, demonstrations, QUICK, tmp_path / "sft", seed=0)
    with pytest.raises(TrainingError, match=r"^demonstrations: "):
        train_sft(base, [], QUICK, tmp_path / "sft", seed=0)
    long = [Demonstration(Conversation.ask("cough " * 40), "Honey.")]
    short_limit = QUICK.model_copy(update={"max_length_tokens": 16})
    with pytest.raises(TrainingError, match=r"^max_length_tokens: "):
        train_sft(base, long, short_limit, tmp_path / "sft", seed=0)
