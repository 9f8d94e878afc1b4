from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from reward_server.engine.loading import (
    Loaded,
    check_last_token,
    load_causal,
    load_classifier,
    resolve_dtype,
    resolve_max_length,
)
from reward_server.errors import ServerStartError
from reward_server.specs import TransformerSpec
from tests.reward_server.engine.small import plain_rewards, save_classifier
from tests.reward_server.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
INPUTS = [(3, 7, 9, 20), (3, 7, 9, 21, 22, 23)]


def load(folder: Path, *, adapter: Path | None = None, **settings: Any) -> Loaded:
    spec = TransformerSpec(model=str(folder), dtype=settings.pop("dtype", "float32"), **settings)
    return load_classifier(folder, spec, adapter=adapter)


@pytest.fixture
def copied(reward_model: Path, tmp_path: Path) -> Path:
    """A reward model to spoil."""
    return Path(shutil.copytree(reward_model, tmp_path / "copied"))


def train_adapter(base: Path, folder: Path, *, seed: int = 0, **settings: Any) -> Any:
    """A LoRA adapter as a training run would leave it, and the model under it, not merged."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    torch.manual_seed(seed)
    chosen = {"r": 4, "target_modules": ["q_proj", "up_proj"], "init_lora_weights": False}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**{**chosen, **settings}))
    for name, weight in adapted.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(folder)
    return adapted.eval()


def test_a_folder_becomes_a_model_in_evaluation_mode(reward_model: Path) -> None:
    loaded = load(reward_model)
    assert not loaded.model.training
    assert loaded.dtype == "float32"
    assert loaded.max_length == 128
    assert loaded.adapter is None
    assert type(loaded.backbone).__name__ == "LlamaModel"


def test_weights_that_are_pickled_are_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    with pytest.raises(ServerStartError, match=r"is not a reward model: .*safetensors") as caught:
        load(copied)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_reward_head_is_refused(language_model: Path) -> None:
    with pytest.raises(ServerStartError, match=r"lacks weights \(score\.weight\)"):
        load(language_model)


def test_a_reward_model_is_no_language_model(reward_model: Path) -> None:
    with pytest.raises(ServerStartError, match=r"lacks weights \(lm_head\.weight\)"):
        load_causal(reward_model, TransformerSpec(model="x", dtype="float32"))


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(copied: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ServerStartError, match=r"has \d+ tokens and the model embeds \d+; give"):
        load(copied)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{}", "is not a reward model: "),
        ("model.safetensors", "cut off", "is not a reward model: "),
        ("tokenizer.json", "{}", "has no usable tokenizer: "),
        ("tokenizer.json", "cut off", "has no usable tokenizer: "),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    file: str, content: str, message: str, copied: Path
) -> None:
    (copied / file).write_text(content)
    with pytest.raises(ServerStartError, match=message) as caught:
        load(copied)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused(copied: Path) -> None:
    for file in copied.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ServerStartError, match="has no usable tokenizer"):
        load(copied)


def test_a_model_that_does_not_fit_the_device_is_refused(
    reward_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ServerStartError, match="does not fit into what the cpu device has left"):
        load(reward_model)


def test_code_beside_the_weights_does_not_run_unless_it_is_trusted(
    copied: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "it_ran"
    (copied / "code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: pass\n")
    settings = json.loads((copied / "config.json").read_text())
    settings["model_type"] = "unheard_of"
    settings["auto_map"] = {
        "AutoConfig": "code.Model",
        "AutoModelForSequenceClassification": "code.Model",
    }
    (copied / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ServerStartError, match="contains custom code"):
        load(copied)
    assert not marker.exists()
    assert not TransformerSpec(model="x").trust_remote_code


@pytest.mark.parametrize("modules_to_save", [None, ["score"]])
def test_an_adapter_with_a_trained_head_gives_the_rewards_of_peft(
    modules_to_save: list[str] | None, language_model: Path, tmp_path: Path
) -> None:
    # PEFT itself saves the head of a sequence classification task, asked to or not.
    adapted = train_adapter(
        language_model, tmp_path, task_type="SEQ_CLS", modules_to_save=modules_to_save
    )
    loaded = load(language_model, adapter=tmp_path)
    expected = plain_rewards(adapted, INPUTS)
    assert plain_rewards(loaded.model, INPUTS) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1
    assert type(loaded.model).__name__ == "LlamaForSequenceClassification"
    assert loaded.adapter is not None


def test_an_adapter_over_a_reward_model_gives_the_rewards_of_peft(
    reward_model: Path, tmp_path: Path
) -> None:
    adapted = train_adapter(reward_model, tmp_path)
    loaded = load(reward_model, adapter=tmp_path)
    expected = plain_rewards(adapted, INPUTS)
    assert plain_rewards(loaded.model, INPUTS) == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(plain_rewards(load(reward_model).model, INPUTS), abs=1e-2)


def test_an_adapter_with_a_tokenizer_is_read_with_that_one(
    reward_model: Path, tmp_path: Path
) -> None:
    train_adapter(reward_model, tmp_path)
    bare = load(reward_model, adapter=tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path)
    loaded = load(reward_model, adapter=tmp_path)
    assert bare.tokenizer.chat_template == TOKENIZER.chat_template
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
    assert (bare.tokenizer_folder, loaded.tokenizer_folder) == (reward_model, tmp_path)


def test_a_head_of_several_labels_may_come_with_the_adapter(
    language_model: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(language_model, num_labels=3)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"])
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    assert load(language_model, adapter=tmp_path).model.config.num_labels == 3


def test_an_adapter_of_a_language_model_is_merged(language_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(language_model)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(model, config).eval()
    adapted.save_pretrained(tmp_path)
    spec = TransformerSpec(model=str(language_model), dtype="float32")
    loaded = load_causal(language_model, spec, adapter=tmp_path)
    ids = torch.tensor(INPUTS[:1])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(ids).logits, adapted(ids).logits)


def test_two_adapters_have_two_digests(reward_model: Path, tmp_path: Path) -> None:
    digests = set()
    for seed in (0, 1):
        train_adapter(reward_model, tmp_path / str(seed), seed=seed)
        digests.add(load(reward_model, adapter=tmp_path / str(seed)).adapter)
    assert len(digests) == 2


def test_an_adapter_that_is_pickled_is_refused(reward_model: Path, tmp_path: Path) -> None:
    train_adapter(reward_model, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(weights, tmp_path / "adapter_model.bin")
    with pytest.raises(ServerStartError, match=r"adapter: .* holds no adapter_model\.safetensors"):
        load(reward_model, adapter=tmp_path)


def test_an_adapter_file_that_is_cut_off_is_refused(reward_model: Path, tmp_path: Path) -> None:
    train_adapter(reward_model, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ServerStartError, match=r"adapter: .* cannot be read: "):
        load(reward_model, adapter=tmp_path)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_an_adapter_that_is_not_whole_is_refused(reward_model: Path, tmp_path: Path) -> None:
    train_adapter(reward_model, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    weights.pop(next(name for name in weights if "layers.1" in name))
    save_file(weights, file)
    with pytest.raises(ServerStartError, match=r"adapter: .* lacks weights \(.*layers\.1.*lora_"):
        load(reward_model, adapter=tmp_path)


def test_an_adapter_of_another_model_is_refused(reward_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_classifier(other, TOKENIZER, hidden_size=64)
    train_adapter(other, tmp_path / "adapter")
    with pytest.raises(ServerStartError, match=r"adapter: .* does not fit the model: ") as caught:
        load(reward_model, adapter=tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_cannot_be_merged_is_refused(language_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(language_model)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    spec = TransformerSpec(model=str(language_model), dtype="float32")
    with pytest.raises(ServerStartError, match=r"adapter: .* does not fit the model: "):
        load_causal(language_model, spec, adapter=tmp_path)


def test_an_adapter_in_the_place_of_a_model_is_refused(reward_model: Path, tmp_path: Path) -> None:
    # transformers would load the base that it names, from anywhere and in any version.
    train_adapter(reward_model, tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ServerStartError, match=r"is an adapter; name its base as model, and this"):
        load(tmp_path)


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_device_multiplies_in_it(
    has_it: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has_it)
    assert resolve_dtype("auto", "cpu") == expected
    assert resolve_dtype("auto", "cuda") == expected


def test_a_dtype_that_is_named_is_taken(reward_model: Path) -> None:
    assert resolve_dtype("float16", "cpu") == "float16"
    loaded = load(reward_model, dtype="bfloat16")
    assert loaded.dtype == "bfloat16"
    assert loaded.model.dtype == torch.bfloat16


def longest(model_type: str, configured: int | None = None, **settings: Any) -> int:
    return resolve_max_length(configured, AutoConfig.for_model(model_type, **settings))


def test_the_longest_input_is_the_models_or_a_shorter_one() -> None:
    assert longest("llama", max_position_embeddings=300) == 300
    assert longest("llama", 200, max_position_embeddings=300) == 200


def test_a_length_above_the_models_is_refused() -> None:
    with pytest.raises(ServerStartError, match="max_length: 301 is above the model's 300"):
        longest("llama", 301, max_position_embeddings=300)


def test_a_model_that_states_no_length_needs_one() -> None:
    with pytest.raises(ServerStartError, match=r"max_length: .* states none; give one"):
        longest("bloom")
    assert longest("bloom", 512) == 512


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert", "mpnet"])
def test_positions_behind_padding_leave_room_for_fewer_tokens(
    model_type: str, tmp_path: Path
) -> None:
    settings = {"max_position_embeddings": 34, "pad_token_id": 1, "bos_token_id": 0}
    assert longest(model_type, **settings) == 32
    config = AutoConfig.for_model(
        model_type, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, **settings
    )
    auto: Any = AutoModelForSequenceClassification
    model = auto.from_config(config).eval()
    assert len(plain_rewards(model, [(5,) * 32])) == 1
    with pytest.raises((IndexError, RuntimeError)):
        plain_rewards(model, [(5,) * 33])


def test_inputs_that_end_with_the_pad_token_are_refused() -> None:
    config = AutoConfig.for_model("llama", pad_token_id=7)
    check_last_token([7, 5], config)
    with pytest.raises(ServerStartError, match="scored position is ambiguous"):
        check_last_token([5, 7], config)
    check_last_token([5, 7], AutoConfig.for_model("llama"))
