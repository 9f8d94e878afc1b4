"""A tiny random reward model, and a scorer without one."""

from __future__ import annotations

import asyncio
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
from reward_server.errors import DeviceFailed, RewardServerError
from reward_server.fingerprint import fingerprint
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Head,
    Identity,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Call, RawInput, RawScored, Scored

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
    """Reward = length of the candidate; tokens = one more.

    A cleared ``gate`` holds requests behind their admission. ``error`` fails them: one of the
    server's own as it is, any other one as a dead device would.
    """

    def __init__(self, name: str = "default", *, weights: str = "w") -> None:
        head = Head(architecture="Fake", num_labels=1, pooling="last_token")
        identity = Identity(
            weights=weights, tokenizer="t", template="c", config="c", dtype="float32", head=head
        )
        self.info = ModelInfo(
            name=name,
            fingerprint=fingerprint(identity),
            identity=identity,
            max_length=64,
            device="cpu",
        )
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.error: Exception | None = None
        self.calls: list[tuple[list[str], Call]] = []
        self.cancelled = 0
        self.is_open = False
        self._is_broken = False

    @property
    def is_ready(self) -> bool:
        return self.is_open and not self._is_broken

    def start(self) -> None:
        assert not self.is_open
        self.is_open = True

    async def aclose(self) -> None:
        self.is_open = False

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        self.calls.append(([group.id for group in groups], call))
        results = tuple(
            GroupResult(id=group.id, results=tuple(map(self._result, group.candidates)))
            for group in groups
        )
        tokens = sum(result.tokens for group in results for result in group.results)
        await self._admit(tokens, call)
        return Scored(
            groups=results,
            usage=Usage(tokens=tokens, computed_tokens=tokens),
            engine="padded",
            seconds={"render": 0.25, "wait": 0.5, "forward": 1.0},
        )

    async def _admit(self, tokens: int, call: Call) -> None:
        if not self.is_ready:
            raise DeviceFailed("the batcher is not running; the server is going down")
        call.on_tokens(tokens)
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.error, RewardServerError):
            raise self.error
        if self.error is not None:
            self._is_broken = True
            raise DeviceFailed("the device failed; see the log")

    @staticmethod
    def _result(candidate: str) -> CandidateResult:
        return CandidateResult(reward=float(len(candidate)), tokens=1 + len(candidate))


class FakeRawScorer(FakeScorer):
    """A fake that also reads inputs which somebody else rendered, as texts alone."""

    async def score_raw(self, inputs: Sequence[RawInput], call: Call) -> RawScored:
        results = tuple(self._result(each.text or "") for each in inputs)
        tokens = sum(result.tokens for result in results)
        await self._admit(tokens, call)
        return RawScored(
            results=results,
            usage=Usage(tokens=tokens, computed_tokens=tokens),
            labels=tuple((result.reward or 0.0,) for result in results),
        )


def group(name: str = "q1", *candidates: str) -> ScoreGroup:
    return ScoreGroup.of(
        name, Conversation.ask("What helps a stuffy nose?"), candidates or ("Rest.", "Steam helps.")
    )
