from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpora.conversation import Conversation
from corpora.world import Demonstration
from foundation.training import TrainingError
from policy.training.config import ScratchConfig
from policy.training.scratch import create_base_policy

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What helps a cold?"},
    {"role": "assistant", "content": "Warm soup."},
    {"role": "user", "content": "And a cough?"},
]


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


def render(tokenizer: Any, messages: list[dict[str, str]], **options: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def test_the_template_marks_every_turn_behind_one_bos(tokenizer: Any) -> None:
    assert render(tokenizer, TALK, add_generation_prompt=True) == (
        "<|begin|><|system|>Be kind.<|end|><|user|>What helps a cold?<|end|>"
        "<|assistant|>Warm soup.<|end|><|user|>And a cough?<|end|><|assistant|>"
    )


def test_rendering_to_ids_gives_exactly_one_bos(tokenizer: Any) -> None:
    ids = tokenizer.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_the_prompt_is_a_prefix_of_prompt_and_response(tokenizer: Any) -> None:
    answer = {"role": "assistant", "content": "Honey."}
    prompt = tokenizer.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*TALK, answer])["input_ids"]
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(whole[len(prompt) :]) == "Honey.<|end|>"


def test_the_assistants_turns_are_marked_for_training(tokenizer: Any) -> None:
    marked = tokenizer.apply_chat_template(
        TALK, return_dict=True, return_assistant_tokens_mask=True
    )
    learned = [
        token
        for token, is_learned in zip(marked["input_ids"], marked["assistant_masks"], strict=True)
        if is_learned
    ]
    assert tokenizer.decode(learned) == "Warm soup.<|end|>"


def test_the_end_of_a_turn_is_eos_and_not_padding(tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<|end|>"
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


@given(text=st.text(max_size=40))
def test_any_text_survives_the_tokenizer(base: Path, text: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_folder_loads_with_its_generation_settings(base: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    assert model.dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_equal_seeds_give_equal_folders_and_others_do_not(
    base: Path, tmp_path: Path, demonstrations: list[Demonstration], tiny: ScratchConfig
) -> None:
    for seed in (0, 1):
        create_base_policy(demonstrations, tiny, tmp_path / str(seed), seed=seed)
    names = ("tokenizer.json", "chat_template.jinja")
    assert all((base / name).read_text() == (tmp_path / "0" / name).read_text() for name in names)
    first, same, other = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        for folder in (base, tmp_path / "0", tmp_path / "1")
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_head_width_that_vllm_cannot_serve_is_refused() -> None:
    assert ScratchConfig(hidden_size=160, heads=2).heads == 2
    with pytest.raises(ValueError, match="hidden_size 256 over 16 heads is 16 a head; make it one"):
        ScratchConfig(hidden_size=256, heads=16)


def test_no_demonstrations_are_refused(tmp_path: Path, tiny: ScratchConfig) -> None:
    with pytest.raises(TrainingError, match="demonstrations: there are none"):
        create_base_policy([], tiny, tmp_path / "base", seed=0)


def test_an_existing_folder_is_refused(base: Path, tiny: ScratchConfig) -> None:
    demonstration = Demonstration(Conversation.ask("Hello?"), "Hello.")
    with pytest.raises(TrainingError, match=r"output: .* exists"):
        create_base_policy([demonstration], tiny, base, seed=0)
