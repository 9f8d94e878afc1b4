"""From a folder to a model on a device: safetensors only, no code beside the weights unless named.

Raises ``ServerStartError`` for whatever in the folder cannot be served: one line that names the
setting, its value and the fix. Knows nothing of rewards, batches or requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from reward_server.engine.memory import keep_freed_memory
from reward_server.errors import ServerStartError
from reward_server.fingerprint import digest
from reward_server.protocol import DType
from reward_server.specs import DTypeChoice, TransformerSpec

UNREADABLE = (ImportError, KeyError, OSError, RuntimeError, SafetensorError, ValueError)
"""What transformers raises on a folder that it cannot read."""

BATCH_TOKENS = {"cuda": 16_384, "cpu": 6_144}
"""Default budget of one batch in tokens. On a CPU larger ones gain nothing and delay others."""


HEAD_WEIGHTS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
"""How the weights end that have a row for each label."""

POSITIONS_BEHIND_PADDING = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Models whose positions are counted from behind the pad token's id, so that they read fewer tokens
than they have positions."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of an adapter's weights, by name."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode, with what belongs to it."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    tokenizer_folder: Path
    """The adapter's, which was trained with it, where it has a tokenizer; else the model's."""

    device: str
    dtype: DType
    max_length: int
    max_batch_tokens: int
    adapter: str | None
    """Digest of the adapter that was merged into the model."""

    @property
    def backbone(self) -> Any:
        """What gives hidden states."""
        return self.model.base_model


def load_classifier(folder: Path, spec: TransformerSpec, *, adapter: Path | None = None) -> Loaded:
    """A sequence classification model with trained weights for its head."""
    return _load(AutoModelForSequenceClassification, folder, spec, adapter)


def load_causal(folder: Path, spec: TransformerSpec, *, adapter: Path | None = None) -> Loaded:
    """A causal language model."""
    return _load(AutoModelForCausalLM, folder, spec, adapter)


def _load(auto: Any, folder: Path, spec: TransformerSpec, adapter: Path | None) -> Loaded:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()
    dtype = resolve_dtype(spec.dtype, device)
    has_tokenizer = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    tokenizer_folder = adapter if adapter is not None and has_tokenizer else folder
    tokenizer = load_tokenizer(tokenizer_folder, spec)
    shapes = {} if adapter is None else adapter_shapes(adapter)
    model, missing = _read(auto, folder, spec, dtype, shapes)
    if adapter is not None:
        model = lay_over(model, adapter)
        missing = [name for name in missing if not any(key.endswith(name) for key in shapes)]
    # A head that the files lack would be initialised at random, and its rewards with it.
    if missing:
        raise ServerStartError(
            f"model: {folder} lacks weights ({', '.join(missing[:3])}); give a trained reward model"
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ServerStartError(
            f"model: the tokenizer in {tokenizer_folder} has {len(tokenizer)} tokens and the model "
            f"embeds {rows}; give the tokenizer that the model was trained with"
        )
    return Loaded(
        model=_placed(model, device, folder),
        tokenizer=tokenizer,
        tokenizer_folder=tokenizer_folder,
        device=device,
        dtype=dtype,
        max_length=resolve_max_length(spec.max_length, model.config),
        max_batch_tokens=spec.max_batch_tokens or BATCH_TOKENS[device],
        adapter=None if adapter is None else digest(adapter.glob("adapter_*")),
    )


def _placed(model: Any, device: str, folder: Path) -> Any:
    try:
        return model.to(device).eval()
    except torch.OutOfMemoryError:
        raise ServerStartError(
            f"model: {folder} does not fit into what the {device} device has left of its memory; "
            "serve fewer models, or a smaller one"
        ) from None


def resolve_dtype(choice: DTypeChoice, device: str) -> DType:
    """The dtype that ``auto`` stands for: bfloat16 where the device multiplies in it."""
    if choice != "auto":
        return choice
    has_bfloat16 = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    return "bfloat16" if has_bfloat16 else "float32"


def resolve_max_length(configured: int | None, model_config: Any) -> int:
    """The longest input in tokens: what the model was built for, or a smaller configured one.

    Raises:
        ServerStartError: if the model states no length and none is configured, or the configured
            one is above the model's.
    """
    text_config = model_config.get_text_config()
    built_for: int | None = getattr(text_config, "max_position_embeddings", None)
    if built_for is not None and text_config.model_type in POSITIONS_BEHIND_PADDING:
        pad: int | None = text_config.pad_token_id
        built_for -= 1 + (1 if pad is None else pad)
    longest = configured or built_for
    if longest is None:
        raise ServerStartError("max_length: the model's config.json states none; give one")
    if built_for is not None and longest > built_for:
        raise ServerStartError(
            f"max_length: {longest} is above the model's {built_for}; give at most that"
        )
    return longest


def load_tokenizer(folder: Path, spec: TransformerSpec) -> PreTrainedTokenizerBase:
    """The tokenizer of ``folder``.

    Raises:
        ServerStartError: if there is none that can be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=spec.trust_remote_code
        )
    except UNREADABLE as error:
        raise ServerStartError(f"model: {folder} has no usable tokenizer: {_line(error)}") from None
    return tokenizer


def _read(
    auto: Any, folder: Path, spec: TransformerSpec, dtype: DType, adapter: Shapes
) -> tuple[Any, list[str]]:
    if (folder / "adapter_config.json").exists():
        # transformers would fetch whatever base it names, and the fingerprint would not know it.
        raise ServerStartError(
            f"model: {folder} is an adapter; name its base as model, and this folder as adapter"
        )
    # The base of an adapter with a head need not be a classifier, nor know how many labels it has.
    labels = [shape[0] for key, shape in adapter.items() if key.endswith(HEAD_WEIGHTS)]
    try:
        model, loading = auto.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=spec.trust_remote_code,
            output_loading_info=True,
            **({"num_labels": labels[0]} if labels else {}),
        )
    except UNREADABLE as error:
        raise ServerStartError(f"model: {folder} is not a reward model: {_line(error)}") from None
    return model, sorted(loading["missing_keys"])


def adapter_shapes(adapter: Path) -> Shapes:
    """Names and shapes of an adapter's weights.

    Raises:
        ServerStartError: if the folder holds no adapter in safetensors.
    """
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        raise ServerStartError(
            f"adapter: {adapter} holds no adapter_model.safetensors; save the adapter as such"
        )
    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118  # no mapping
    except UNREADABLE as error:
        raise ServerStartError(f"adapter: {file} cannot be read: {_line(error)}") from None


def lay_over(model: Any, adapter: Path) -> Any:
    """``model`` with the PEFT adapter of a folder merged into its weights.

    Raises:
        ServerStartError: if the folder holds no adapter in safetensors, or one that is not whole,
            cannot be merged or is for another model.
    """
    shapes = adapter_shapes(adapter)
    try:
        laid_over = peft.PeftModel.from_pretrained(model, str(adapter))
        wanted = peft.get_peft_model_state_dict(laid_over, save_embedding_layers=False)
        merged = laid_over.merge_and_unload()
    except (*UNREADABLE, AttributeError) as error:  # a prompt cannot be merged, and has no method
        raise ServerStartError(
            f"adapter: {adapter} does not fit the model: {_line(error)}"
        ) from None
    # PEFT leaves what the file lacks as it was made: at random, or without any effect.
    lacking = sorted(set(wanted) - set(shapes))
    if lacking:
        raise ServerStartError(
            f"adapter: {adapter} lacks weights ({', '.join(lacking[:3])}); save it anew"
        )
    return merged


def check_last_token(sample: Sequence[int], model_config: Any) -> None:
    """Refuses a model whose inputs, such as ``sample``, end with its own pad token.

    transformers reads the reward at the last token that is not the pad token, in training and in
    evaluation, so on such inputs it reads another position than the last.

    Raises:
        ServerStartError: if the sample's last token is the pad token.
    """
    pad: int | None = model_config.get_text_config().pad_token_id
    if pad is not None and sample[-1] == pad:
        raise ServerStartError(
            f"model: the chat template ends with token {pad}, which is also pad_token_id in "
            "config.json, so the scored position is ambiguous; train with a pad token of its own"
        )


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
