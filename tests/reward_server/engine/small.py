"""Tiny random models of many families, inputs for them, and plain rewards to compare with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from reward_server.tokens import Labels, TokenInput
from tests.reward_server.tiny import TEXT

Ids = tuple[int, ...]

VOCABULARY = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_classifier(model_type: str, **settings: Any) -> Any:
    """A reward model whose rewards lie some units apart; the same one for the same arguments."""
    config = AutoConfig.for_model(model_type, **{**SIZES, **settings})
    config.num_labels = 1
    torch.manual_seed(0)
    auto: Any = AutoModelForSequenceClassification
    model = auto.from_config(config, attn_implementation="eager").eval().float()
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and not name.startswith("score"):
            torch.nn.init.normal_(weight, std=0.15)  # so that attention prefers some tokens
    if hasattr(model, "score"):
        torch.nn.init.normal_(model.score.weight, std=0.5)
    return model


@torch.inference_mode()
def plain_rewards(model: Any, inputs: Sequence[Ids], **more: Any) -> list[float]:
    """The rewards of the whole model, an input at a time."""
    return [
        float(model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits[0, 0])
        for ids in inputs
    ]


def token_inputs(inputs: Sequence[Ids]) -> list[TokenInput]:
    return [TokenInput(ids) for ids in inputs]


def firsts(labels: Sequence[Labels]) -> list[float]:
    return [numbers[0] for numbers in labels]


def some_ids(draw: random.Random, count: int, *, vocabulary: int = VOCABULARY) -> Ids:
    """Ids of real tokens: that of padding, 0, is none."""
    return tuple(draw.randrange(1, vocabulary) for _ in range(count))


def prefix_trees(
    *, longest: int = 40, most: int = 8, vocabulary: int = VOCABULARY
) -> st.SearchStrategy[list[Ids]]:
    """Inputs in any order, most of which continue a stem that others continue too.

    A stem may itself continue another one; some inputs are equal, or part of another.
    """

    def grow(seed: int, count: int) -> list[Ids]:
        chance = random.Random(seed)
        stems: list[Ids] = [some_ids(chance, longest, vocabulary=vocabulary)]
        inputs: list[Ids] = []
        for _ in range(count):
            stem = chance.choice(stems) if chance.random() < 0.8 else ()
            more = chance.randint(0 if stem else 1, longest)
            inputs.append(stem + some_ids(chance, more, vocabulary=vocabulary))
            if chance.random() < 0.4:
                stems.append(inputs[-1][: chance.randint(1, len(inputs[-1]))])
        chance.shuffle(inputs)
        return inputs

    return st.builds(grow, st.integers(0, 2**32), st.integers(1, most))


def save_classifier(
    folder: Path, tokenizer: Any, model_type: str = "llama", **settings: Any
) -> Any:
    """A reward model with its tokenizer, as training would leave it."""
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = make_classifier(model_type, **{**sizes, **settings})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_causal(folder: Path, tokenizer: Any, model_type: str = "llama", **settings: Any) -> Any:
    """A causal language model with its tokenizer."""
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(model_type, **{**SIZES, **sizes, **settings})
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").eval().float()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def make_pair_tokenizer(first: str = "[CLS]", last: str = "[SEP]") -> Any:
    """As encoders have them: both texts end with a mark, and the second has a type of its own."""
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        special_tokens=["[PAD]", first, last, "[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=marks,
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # theirs
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token=first,
        sep_token=last,
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
