from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpora.preference import Pair
from corpora.world import Demonstration
from foundation.progress import TrainingProgress
from foundation.training import TrainingError
from policy.deploy import read_canaries
from policy.training.config import LoraSettings, PreferenceConfig, PreferenceLoss, ScratchConfig
from policy.training.preference import PreferenceResult, PreferenceTrainer
from policy.training.scratch import create_base_policy

CONFIG = PreferenceConfig(
    learning_rate=5e-3,
    batch_size=8,
    epochs=4,
    precision="float32",
    lora=LoraSettings(rank=4, alpha=8),
)


def with_settings(**changes: Any) -> PreferenceConfig:
    return CONFIG.model_copy(update=changes)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> Path:
    """An adapter that one training made."""
    folder = tmp_path_factory.mktemp("adapters") / "r1"
    PreferenceTrainer(base, CONFIG).train(pairs, adapter=None, output=folder, seed=0)
    return folder


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")


def is_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def independent_logprobs(
    base: Path, adapter: Path | None, prompt: tuple[int, ...], response: tuple[int, ...]
) -> list[float]:
    """Token logprobs by plain transformers and PEFT, from the folders."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.tensor([prompt + response])).logits[0]
    table = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return [table[i, token].item() for i, token in enumerate(response)]


def independent_reward(base: Path, adapter: Path, pair: Pair, answer: str) -> float:
    """beta times the log ratio of one answer to the base's."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    messages = pair.conversation.to_dicts()
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}])
    ids = tuple(prompt), tuple(whole["input_ids"][len(prompt) :])
    ratio = sum(independent_logprobs(base, adapter, *ids))
    return CONFIG.beta * (ratio - sum(independent_logprobs(base, None, *ids)))


def test_a_fresh_adapter_starts_at_the_reference(
    base: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    trainer = PreferenceTrainer(base, CONFIG)
    result = trainer.train(pairs, adapter=None, output=tmp_path / "r1", seed=0)
    assert result.first_loss == pytest.approx(math.log(2), abs=1e-4)
    assert result.first_step_reference_gap == pytest.approx(0.0, abs=1e-6)


def test_training_moves_chosen_above_rejected(
    base: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    seen: list[TrainingProgress] = []
    config = with_settings(epochs=12.0)
    result = PreferenceTrainer(base, config).train(
        pairs, adapter=None, output=tmp_path / "r1", seed=0, on_progress=seen.append
    )
    assert result.last_loss < result.first_loss == seen[0].loss
    assert result.reward_accuracy == 1.0
    assert result.reward_margin > 0.1
    assert (result.steps, result.pairs) == (len(seen), len(pairs))


def test_a_later_round_is_held_to_the_base(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    """The first rewards are the continued adapter's against the base, computed by other means."""
    trainer = PreferenceTrainer(base, CONFIG)
    result = trainer.train(pairs, adapter=trained, output=tmp_path / "r2", seed=0)
    chosen = [independent_reward(base, trained, pair, pair.chosen) for pair in pairs]
    rejected = [independent_reward(base, trained, pair, pair.rejected) for pair in pairs]
    assert result.first_chosen_reward == pytest.approx(sum(chosen) / len(pairs), abs=1e-4)
    assert result.first_rejected_reward == pytest.approx(sum(rejected) / len(pairs), abs=1e-4)
    margins = [c - r for c, r in zip(chosen, rejected, strict=True)]
    losses = [math.log1p(math.exp(-margin)) for margin in margins]
    assert result.first_loss == pytest.approx(sum(losses) / len(pairs), abs=1e-4)
    assert result.first_step_reference_gap > 0.05


def test_the_previous_adapter_is_the_reference_only_when_asked_for(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    trainer = PreferenceTrainer(base, with_settings(reference="previous"))
    result = trainer.train(pairs, adapter=trained, output=tmp_path / "r2", seed=0)
    assert result.first_loss == pytest.approx(math.log(2), abs=1e-4)
    assert result.first_step_reference_gap == pytest.approx(0.0, abs=1e-6)
    assert not is_equal(weights(trained), weights(tmp_path / "r2"))
    assert {file.name for file in (tmp_path / "r2").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "canaries.json",
    }


def test_training_continues_from_the_adapters_weights(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    standing_still = with_settings(learning_rate=1e-30)
    PreferenceTrainer(base, standing_still).train(
        pairs, adapter=trained, output=tmp_path / "r2", seed=1
    )
    assert is_equal(weights(trained), weights(tmp_path / "r2"))


def test_a_warm_trainer_gives_what_a_cold_one_gives(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    warm = PreferenceTrainer(base, CONFIG)
    warm.train(pairs, adapter=None, output=tmp_path / "r1", seed=0)
    warm.train(pairs, adapter=tmp_path / "r1", output=tmp_path / "warm", seed=1)
    cold = PreferenceTrainer(base, CONFIG)
    cold.train(pairs, adapter=trained, output=tmp_path / "cold", seed=1)
    assert is_equal(weights(tmp_path / "r1"), weights(trained))
    assert is_equal(weights(tmp_path / "warm"), weights(tmp_path / "cold"))


def test_another_seed_gives_another_adapter(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    PreferenceTrainer(base, CONFIG).train(pairs, adapter=None, output=tmp_path / "r1", seed=1)
    assert not is_equal(weights(trained), weights(tmp_path / "r1"))


def test_a_crash_leaves_nothing_behind_and_the_trainer_usable(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    def crash(progress: TrainingProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    trainer = PreferenceTrainer(base, CONFIG)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(pairs, adapter=None, output=tmp_path / "r1", seed=0, on_progress=crash)
    assert list(tmp_path.iterdir()) == []
    trainer.train(pairs, adapter=None, output=tmp_path / "r1", seed=0)
    assert is_equal(weights(trained), weights(tmp_path / "r1"))


@pytest.mark.parametrize("loss", get_args(PreferenceLoss))
def test_every_loss_trains(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair], loss: PreferenceLoss
) -> None:
    config = with_settings(loss=loss, batch_size=3, epochs=1.0, label_smoothing=0.1)
    trainer = PreferenceTrainer(base, config)
    result = trainer.train(pairs, adapter=trained, output=tmp_path / "r2", seed=0)
    assert (result.steps, result.pairs) == (2, len(pairs))
    assert math.isfinite(result.last_loss)
    assert not is_equal(weights(trained), weights(tmp_path / "r2"))


def kto_result(
    base: Path, adapter: Path | None, output: Path, pairs: list[Pair]
) -> PreferenceResult:
    trainer = PreferenceTrainer(base, with_settings(loss="kto"))
    return trainer.train(pairs, adapter=adapter, output=output, seed=0)


def test_kto_is_held_to_the_base_too(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    fresh = kto_result(base, None, tmp_path / "r1", pairs)
    later = kto_result(base, trained, tmp_path / "r2", pairs)
    chosen = [independent_reward(base, trained, pair, pair.chosen) for pair in pairs]
    assert fresh.first_loss == pytest.approx(0.5, abs=1e-4)
    assert fresh.first_step_reference_gap == pytest.approx(0.0, abs=1e-6)
    assert later.first_chosen_reward == pytest.approx(sum(chosen) / len(pairs), abs=1e-4)
    assert fresh.reward_accuracy is None


def test_imitation_adds_the_chosen_responses_own_loss(
    base: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    trainer = PreferenceTrainer(base, with_settings(imitation_weight=0.5))
    result = trainer.train(pairs, adapter=None, output=tmp_path / "r1", seed=0)
    assert result.first_loss > math.log(2) + 1.0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_canaries_are_float32_logprobs_of_the_saved_adapter(
    base: Path, tmp_path: Path, pairs: list[Pair], precision: str
) -> None:
    trainer = PreferenceTrainer(base, with_settings(precision=precision, canaries=3))
    trainer.train(pairs, adapter=None, output=tmp_path / "r1", seed=0)
    canaries = read_canaries(tmp_path / "r1")
    assert len(canaries) == 3
    for canary in canaries:
        ids = canary.prompt_token_ids, canary.response_token_ids
        expected = independent_logprobs(base, tmp_path / "r1", *ids)
        assert list(canary.logprobs) == pytest.approx(expected, abs=1e-5)
        expected = independent_logprobs(base, None, *ids)
        assert list(canary.base_logprobs) == pytest.approx(expected, abs=1e-5)


def test_the_adapter_covers_every_linear_layer_but_the_output(trained: Path) -> None:
    config = json.loads((trained / "adapter_config.json").read_text())
    assert {name.split(".")[-1] for name in config["target_modules"]} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.0)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        pytest.param({"rank": 8, "alpha": 8}, "lora.rank: 8, but .* trained with 4", id="rank"),
        pytest.param({"rank": 4, "alpha": 4}, "lora.alpha: 4, but .* trained with 8", id="alpha"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair], lora: dict[str, int], message: str
) -> None:
    trainer = PreferenceTrainer(base, with_settings(lora=LoraSettings(**lora)))
    with pytest.raises(TrainingError, match=message):
        trainer.train(pairs, adapter=trained, output=tmp_path / "r2", seed=0)


def test_an_adapter_of_another_model_is_refused(
    trained: Path,
    tmp_path: Path,
    pairs: list[Pair],
    demonstrations: list[Demonstration],
    tiny: ScratchConfig,
) -> None:
    deeper = tiny.model_copy(update={"layers": 3})
    create_base_policy(demonstrations, deeper, tmp_path / "deeper", seed=0)
    trainer = PreferenceTrainer(tmp_path / "deeper", CONFIG)
    with pytest.raises(TrainingError, match="does not fit the base model"):
        trainer.train(pairs, adapter=trained, output=tmp_path / "r2", seed=0)


def test_bad_input_is_one_line_that_names_the_field(
    base: Path, trained: Path, tmp_path: Path, pairs: list[Pair]
) -> None:
    with pytest.raises(TrainingError, match=r"^base: .* has no config.json"):
        PreferenceTrainer(tmp_path, CONFIG)
    trainer = PreferenceTrainer(base, CONFIG)
    with pytest.raises(TrainingError, match=r"^pairs: there are none"):
        trainer.train([], adapter=None, output=tmp_path / "r1", seed=0)
    with pytest.raises(TrainingError, match=r"^adapter: .* has no adapter_config.json"):
        trainer.train(pairs, adapter=tmp_path, output=tmp_path / "r1", seed=0)
    with pytest.raises(TrainingError, match=r"^output: .* exists"):
        trainer.train(pairs, adapter=None, output=trained, seed=0)


def test_imitation_does_not_go_with_kto() -> None:
    with pytest.raises(ValidationError, match="does not go with loss 'kto'"):
        PreferenceConfig(loss="kto", imitation_weight=0.1)
