"""A tiny random reward model, and a scorer without one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from corpora.conversation import Conversation
from reward_server.fingerprint import fingerprint
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Head,
    Identity,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Scored

BOS, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEXT = [
    "What helps a stuffy nose? Saline rinses, steam and rest help a stuffy nose.",
    "When should I see a doctor? See a doctor if the fever lasts more than three days.",
]


def make_tokenizer(template: str | None = TEMPLATE, *, pad: str = PAD) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[BOS, END, PAD, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # theirs
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=pad,
        chat_template=template,
    )


def save_model(folder: Path, tokenizer: Any, *, seed: int = 0, num_labels: int = 1) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = num_labels
    auto: Any = AutoModelForSequenceClassification
    model = auto.from_config(config)
    torch.nn.init.normal_(model.score.weight, std=0.5)  # rewards of about the size of real ones
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


class FakeScorer:
    """Reward = length of the candidate. ``gate`` holds the device; ``error`` breaks it."""

    def __init__(self) -> None:
        head = Head(architecture="Fake", num_labels=1, pooling="last_token")
        identity = Identity(
            weights="w", tokenizer="t", template="c", config="c", dtype="float32", head=head
        )
        self.info = ModelInfo(
            name="default",
            fingerprint=fingerprint(identity),
            identity=identity,
            max_length=64,
            device="cpu",
        )
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: BaseException | None = None
        self.calls: list[list[str]] = []

    def score(self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow) -> Scored:
        self.calls.append([group.id for group in groups])
        self.entered.set()
        assert self.gate.wait(timeout=30)
        if self.error:
            raise self.error
        results = tuple(
            GroupResult(
                id=group.id,
                results=tuple(
                    CandidateResult(reward=float(len(text)), tokens=1 + len(text))
                    for text in group.candidates
                ),
            )
            for group in groups
        )
        tokens = sum(result.tokens for group in results for result in group.results)
        return Scored(groups=results, usage=Usage(tokens=tokens, computed_tokens=tokens))


def group(name: str = "q1", *candidates: str) -> ScoreGroup:
    return ScoreGroup.of(
        name, Conversation.ask("What helps a stuffy nose?"), candidates or ("Rest.", "Steam helps.")
    )
