"""The reward model that is measured: a folder that was given, or one made on the spot.

A model that is made has random weights: speed does not depend on them, and rewards only have to
differ. Its tokenizer is learned from the bundled clinic. A small one is saved, and read from its
folder by every method; a large one is built on the device, and saved only for methods that run in
another process. Building twice gives the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from benchmarks.throughput.options import DType, ShapeName, ThroughputConfig
from benchmarks.throughput.workloads import Rendered, Word
from corpora.clinic import ClinicWorld
from foundation.errors import UserError
from foundation.training import silence_libraries
from reward_server.protocol import ScoreGroup

BOS, PAD, END = "<|begin|>", "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENIZER_VOCABULARY = 4096
"""Tokens that are learned at most; a model's table may be larger."""

LONGEST_WORD = 4
"""Tokens of a word that texts are made of, at most: with longer ones lengths are hit less well."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama reward model, and the precision that its weights are kept in."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    positions: int
    dtype: DType = "float32"
    on_device: bool = False
    """Whether it is built where it runs, and saved only when another process must read it."""


SHAPES: dict[ShapeName, Shape] = {
    "llama-28m": Shape(512, 8, 8, 8, 1408, 4096, 2048),
    "llama-8b": Shape(4096, 32, 32, 8, 14336, 128256, 8192, dtype="bfloat16", on_device=True),
    "tiny": Shape(64, 2, 2, 2, 128, 4096, 512),
}


@dataclass(frozen=True)
class BenchModel:
    """A reward model, wherever its weights come from."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    config: Any
    seed: int
    folder: Path | None
    """Where it lies on disk; ``None`` for one that is built on the device alone."""

    kept_in: DType = "float32"
    """The precision of its weights, where it is built."""

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens, where the model states one."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    def build(self, dtype: DType) -> Any:
        """The module on the device, ready to give rewards in ``dtype``."""
        if self.folder is not None:
            auto: Any = AutoModelForSequenceClassification
            loaded = auto.from_pretrained(self.folder, dtype=getattr(torch, dtype))
            return loaded.to(device()).eval()
        built = random_model(self.config, dtype=self.kept_in, seed=self.seed)
        if dtype == self.kept_in:
            return built
        # Built anew and filled, not cast: a cast would also round what the module derives itself.
        other = random_model(self.config, dtype=dtype, seed=self.seed)
        other.load_state_dict(built.state_dict())
        return other

    def render(self, group: ScoreGroup) -> Rendered:
        """Token ids of a group, as the reward server makes them."""
        messages = [message.model_dump() for message in group.messages]
        answers = [{"role": "assistant", "content": text} for text in group.candidates]
        return Rendered(
            prompt=self._ids(messages, add_generation_prompt=True),
            inputs=tuple(
                self._ids([*messages, answer], add_generation_prompt=False) for answer in answers
            ),
        )

    def words(self) -> list[Word]:
        """The words that texts are made of.

        Raises:
            UserError: if the tokenizer has no short word, so no length could be hit.
        """
        texts = sorted({word for text in clinic_texts() for word in text.split() if word.isalpha()})
        counts = self.tokenizer([f" {text}" for text in texts], add_special_tokens=False)
        words = [Word(text, len(ids)) for text, ids in zip(texts, counts["input_ids"], strict=True)]
        if not any(word.tokens == 1 for word in words):
            raise UserError(f"--model: {self.name}: its tokenizer has no word of one token")
        return [word for word in words if word.tokens <= LONGEST_WORD]

    def _ids(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> tuple[int]:
        encoding: Any = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=True
        )
        return tuple(encoding["input_ids"])


def open_model(config: ThroughputConfig, folder: Path) -> BenchModel:
    """The model that was asked for; one that is made and saved goes to ``folder``.

    Raises:
        UserError: if the folder that was given holds no reward model with a chat template.
    """
    silence_libraries()
    if config.model is not None:
        return _given(config.model, seed=config.seed)
    shape = SHAPES[config.shape]
    tokenizer = make_tokenizer(shape.positions)
    model = BenchModel(
        name=config.shape,
        tokenizer=tokenizer,
        config=network(shape, tokenizer),
        seed=config.seed,
        folder=folder if config.needs_folder or not shape.on_device else None,
        kept_in=shape.dtype,
    )
    if model.folder is not None:
        made = random_model(model.config, dtype=shape.dtype, seed=config.seed)
        made.save_pretrained(model.folder)
        tokenizer.save_pretrained(model.folder)
    return model


def device() -> str:
    """Where models run: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def random_model(config: Any, *, dtype: DType, seed: int) -> Any:
    """A reward model with random weights, on the device."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForSequenceClassification
    with torch.device(device()):
        model = auto.from_config(config, dtype=getattr(torch, dtype))
        # Rewards of about the size of real ones: hidden states behind the last norm have size 1.
        torch.nn.init.normal_(model.score.weight, std=1 / math.sqrt(config.hidden_size))
    return model.eval()


def network(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The configuration of a Llama reward model."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlamaForSequenceClassification"],
    )
    config.num_labels = 1
    return config


def make_tokenizer(positions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template, learned from the bundled clinic."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_VOCABULARY,
        special_tokens=[PAD, BOS, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(clinic_texts(), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # theirs
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        model_max_length=positions,
        chat_template=TEMPLATE,
    )


def clinic_texts() -> Iterator[str]:
    """What the bundled clinic is asked and answers."""
    for demonstration in ClinicWorld().demonstrations():
        yield demonstration.conversation.last
        yield demonstration.response


def _given(folder: Path, *, seed: int) -> BenchModel:
    if not (folder / "config.json").is_file():
        raise UserError(f"--model: {folder} has no config.json; give the folder of a reward model")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        raise UserError(f"--model: {folder} has no chat template; save one beside the tokenizer")
    return BenchModel(
        name=str(folder),
        tokenizer=tokenizer,
        config=AutoConfig.from_pretrained(folder),
        seed=seed,
        folder=folder,
    )
