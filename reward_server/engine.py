"""From groups to rewards with a sequence classification model on one device.

Promises, each held by a test:

- a reward is the raw logit of the plain transformers forward of the same ids, to 1e-4 in float32;
- neighbours in a batch do not matter beyond 1e-5 in float32;
- the head reads the last token, found by length: a pad id inside the text cannot move it;
- a reward that is not finite becomes a typed error of its candidate, never a number.

Batches are sorted by length under a budget of padded tokens. Whoever calls keeps to one thread.
Knows nothing of HTTP, queues or other requests.

Shapes: B inputs of a batch, L the longest of them in tokens, D hidden size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from reward_server.config import DTypeChoice, RewardServerConfig
from reward_server.errors import ServerStartError
from reward_server.fingerprint import fingerprint, identify
from reward_server.protocol import (
    CandidateResult,
    DType,
    GroupResult,
    Head,
    ItemError,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
    Usage,
)
from reward_server.rendering import Rendered, Renderer
from reward_server.scorer import Scored

BATCH_TOKENS = {"cuda": 16_384, "cpu": 2_048}
"""Default budget of one forward pass in padded tokens."""

UNREADABLE = (KeyError, OSError, RuntimeError, SafetensorError, ValueError)
"""What transformers raises on a folder that it cannot read."""


class SequenceClassificationScorer:
    """A decoder with a linear head of one logit at the last token."""

    def __init__(
        self, model: Any, renderer: Renderer, info: ModelInfo, *, max_batch_tokens: int
    ) -> None:
        self._backbone = model.base_model
        # The head in float32: in bfloat16 neighbouring rewards would round into ties.
        self._head = model.score.float()
        self._renderer = renderer
        self._info = info
        self._max_batch_tokens = max_batch_tokens

    @classmethod
    def load(cls, folder: Path, config: RewardServerConfig) -> SequenceClassificationScorer:
        """Loads ``folder`` onto the GPU if there is one, else onto the CPU.

        Raises:
            ServerStartError: naming what in the folder cannot be served, and the fix.
        """
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = resolve_dtype(config.dtype, device)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, dtype).to(device)
        max_length = resolve_max_length(config.max_length, model.config)
        renderer = Renderer(tokenizer, max_length=max_length)
        check_last_token(renderer, model.config)
        head = Head(architecture=type(model).__name__, num_labels=1, pooling="last_token")
        identity = identify(folder, template=renderer.template, dtype=dtype, head=head)
        info = ModelInfo(
            name=config.name,
            fingerprint=fingerprint(identity),
            identity=identity,
            max_length=max_length,
            device=device,
        )
        max_batch_tokens = config.max_batch_tokens or BATCH_TOKENS[device]
        return cls(model, renderer, info, max_batch_tokens=max_batch_tokens)

    @property
    def info(self) -> ModelInfo:
        return self._info

    def score(self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow) -> Scored:
        started = time.perf_counter()
        rendered = [self._renderer.render(group, on_overflow=on_overflow) for group in groups]
        inputs = [item for group in rendered for item in group]
        rendering_done = time.perf_counter()
        batches = plan_batches([len(item.ids) for item in inputs], self._max_batch_tokens)
        rewards = self._rewards(inputs, batches)
        tokens = sum(len(item.ids) for item in inputs)
        padded = sum(len(batch) * max(len(inputs[i].ids) for i in batch) for batch in batches)
        results = iter([_result(*pair) for pair in zip(inputs, rewards, strict=True)])
        return Scored(
            groups=tuple(
                GroupResult(id=group.id, results=tuple(next(results) for _ in group.candidates))
                for group in groups
            ),
            usage=Usage(tokens=tokens, computed_tokens=tokens),
            padding_tokens=padded - tokens,
            render_seconds=rendering_done - started,
            forward_seconds=time.perf_counter() - rendering_done,
        )

    def _rewards(self, inputs: Sequence[Rendered], batches: list[list[int]]) -> list[float]:
        rewards = [math.nan] * len(inputs)
        for batch in batches:
            logits = self._forward([inputs[index].ids for index in batch])
            for index, logit in zip(batch, logits, strict=True):
                rewards[index] = logit
        return rewards

    @torch.inference_mode()
    def _forward(self, batch: Sequence[Sequence[int]]) -> list[float]:
        device = self._head.weight.device
        lengths_B = torch.tensor([len(ids) for ids in batch])
        longest = int(lengths_B.max())
        # The id under the mask is never read, so any id of the vocabulary will do.
        ids_BL = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in batch])
        mask_BL = torch.arange(longest) < lengths_B[:, None]
        hidden_BLD = self._backbone(
            input_ids=ids_BL.to(device),
            attention_mask=mask_BL.long().to(device),
            use_cache=False,
        ).last_hidden_state
        last_BD = hidden_BLD[torch.arange(len(batch)), lengths_B - 1]
        logits: list[float] = self._head(last_BD.float()).squeeze(-1).tolist()
        return logits


def plan_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Indices of ``lengths`` in batches of like length.

    The padded size of a batch, its longest times its count, stays within ``max_batch_tokens``,
    except that an input longer than the whole budget makes a batch of one.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batches and longest * (len(batches[-1]) + 1) <= max_batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def resolve_dtype(choice: DTypeChoice, device: str) -> DType:
    """The dtype that ``auto`` stands for on a device."""
    if choice != "auto":
        return choice
    return "bfloat16" if device == "cuda" else "float32"


def resolve_max_length(configured: int | None, model_config: Any) -> int:
    """The longest input in tokens: what the model was built for, or a smaller configured one.

    Raises:
        ServerStartError: if the model states no length and none is configured, or the configured
            one is above the model's.
    """
    built_for: int | None = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    longest = configured or built_for
    if longest is None:
        raise ServerStartError("max_length: the model's config.json states none; give one")
    if built_for is not None and longest > built_for:
        raise ServerStartError(
            f"max_length: {longest} is above the model's {built_for}; give at most that"
        )
    return longest


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of ``folder``, without remote code.

    Raises:
        ServerStartError: if there is none that can be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise ServerStartError(f"model: {folder} has no usable tokenizer: {_line(error)}") from None
    return tokenizer


def load_model(folder: Path, dtype: DType) -> Any:
    """The model of ``folder`` in evaluation mode, from safetensors only, without remote code.

    Raises:
        ServerStartError: if there is no reward head of one logit with trained weights.
    """
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise ServerStartError(f"model: {folder} is not a reward model: {_line(error)}") from None
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ServerStartError(
            f"model: {type(model).__name__} has no head at its last token; give a decoder model"
        )
    if model.config.num_labels != 1:
        raise ServerStartError(
            f"model: {folder} has {model.config.num_labels} labels, a reward model has 1; "
            "give one trained with num_labels=1"
        )
    # A head that the file lacks would be initialised at random, and its rewards with it.
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ServerStartError(f"model: {folder} lacks weights ({missing}); give a reward model")
    return model.eval()


def check_last_token(renderer: Renderer, model_config: Any) -> None:
    """Refuses a model whose inputs end with its own pad token.

    transformers reads the reward at the last token that is not the pad token, in training and in
    evaluation, so on such inputs it reads another position than the last.

    Raises:
        ServerStartError: if the template's last token is the pad token.
    """
    pad: int | None = model_config.get_text_config().pad_token_id
    if pad is not None and renderer.sample()[-1] == pad:
        raise ServerStartError(
            f"model: the chat template ends with token {pad}, which is also pad_token_id in "
            "config.json, so the scored position is ambiguous; train with a pad token of its own"
        )


def _result(rendered: Rendered, reward: float) -> CandidateResult:
    tokens, truncated = len(rendered.ids), rendered.truncated_tokens
    if math.isfinite(reward):
        return CandidateResult(reward=reward, tokens=tokens, truncated_tokens=truncated)
    error = ItemError(code="non_finite_reward", detail=f"the model gave {reward}")
    return CandidateResult(reward=None, tokens=tokens, truncated_tokens=truncated, error=error)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
