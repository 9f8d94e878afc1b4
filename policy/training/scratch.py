"""A base policy from nothing: tokenizer and random weights, saved as a standard model folder.

The folder needs no hub: transformers, PEFT and vLLM load it like any other. The tokenizer is
learned from the demonstrations; its template writes one BOS, and every turn ends with ``<|end|>``,
which is also the EOS, so a policy that closes its turn stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from corpora.world import Demonstration
from foundation.training import require, silence_libraries, whole_folder
from policy.training.config import ScratchConfig

BOS, PAD, END = "<|begin|>", "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = Path(__file__).parent.parent / "templates" / "plain.jinja"


@dataclass(frozen=True, slots=True)
class ScratchResult:
    """What was made: number of weights, and of tokens in the vocabulary."""

    parameters: int
    vocabulary: int


def create_base_policy(
    demonstrations: Sequence[Demonstration], config: ScratchConfig, output: Path, *, seed: int
) -> ScratchResult:
    """Makes an untrained policy whose tokenizer fits the demonstrations.

    Args:
        demonstrations: the text that the vocabulary is learned from.
        config: sizes of vocabulary and network.
        output: the folder to write, whole or not at all; must not exist.
        seed: of the random weights.

    Raises:
        TrainingError: if there are no demonstrations or the folder exists.
    """
    require(demonstrations, "demonstrations")
    silence_libraries()
    tokenizer = _tokenizer(demonstrations, config)
    set_seed(seed)
    model = LlamaForCausalLM(_network(config, tokenizer))  # type: ignore[no-untyped-call]  # theirs
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # theirs
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return ScratchResult(parameters=model.num_parameters(), vocabulary=len(tokenizer))


def _tokenizer(
    demonstrations: Sequence[Demonstration], config: ScratchConfig
) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=[PAD, BOS, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(demonstrations), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # theirs
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        model_max_length=config.max_positions,
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def _texts(demonstrations: Sequence[Demonstration]) -> Iterator[str]:
    for demonstration in demonstrations:
        yield from (message.content for message in demonstration.conversation.messages)
        yield demonstration.response


def _network(config: ScratchConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.max_positions,
        # A small vocabulary learns faster when reading and writing share one table.
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
