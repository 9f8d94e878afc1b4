"""A model on a device with its renderer and engine, for each kind of reward that has one.

The only door of this room: the rest of the server sees :class:`Built` and no torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from reward_server.batcher import Engine
from reward_server.engine.choice import (
    HALF_TOLERANCE,
    Chosen,
    choose_engine,
    choose_padding,
    relative_difference,
)
from reward_server.engine.fused import kernels_version
from reward_server.engine.loading import Loaded, check_last_token, load_causal, load_classifier
from reward_server.engine.packed import PackedEngine
from reward_server.engine.padded import PaddedEngine, backbone_forward
from reward_server.engine.readout import LastToken, LogProbability, Readout, capped
from reward_server.errors import ServerStartError
from reward_server.fingerprint import fingerprint, identify, text_digest
from reward_server.protocol import Head, Identity, Kind, ModelInfo
from reward_server.rendering import ChatRenderer, PairRenderer, Renderer
from reward_server.specs import TransformerSpec
from reward_server.tokens import TokenInput

Parameters = dict[str, str | float | int | bool]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: folders that exist."""

    folder: Path
    adapter: Path | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A model that is ready to be put behind a batcher."""

    engine: Engine
    new_renderer: Callable[[], Renderer]
    """Makes a renderer of its own for each thread."""

    info: ModelInfo
    batch_tokens: int
    labels: tuple[str, ...] = ()
    """Names of the head's numbers, as the model's ``id2label`` has them."""

    vocabulary: str = ""
    """Digest of all tokens by their ids, where two models must read the same ones."""


def build_classifier(name: str, source: Source, spec: TransformerSpec, kind: Kind) -> Built:
    """A model with a head of its own: one logit, or several.

    Raises:
        ServerStartError: naming what of it cannot be served, and the fix.
    """
    loaded = load_classifier(source.folder, spec, adapter=source.adapter)
    head = getattr(loaded.model, "score", None)
    if isinstance(head, torch.nn.Linear):
        chat = _chat_renderers(loaded)
        check_last_token(chat().sample(), loaded.model.config)
        chosen = _choose(loaded, LastToken(head.weight, head.bias), spec)
        parts = _Parts(chosen, chat, kind)
    else:
        parts = _Parts(_whole_model(loaded, spec), _pair_renderers(loaded), kind, "own")
    labels = loaded.model.config.id2label
    names = tuple(labels[index] for index in sorted(labels))
    return _built(name, source, loaded, parts, spec, labels=names)


def build_chooser(
    name: str, source: Source, spec: TransformerSpec, choices: tuple[str, str]
) -> Built:
    """A causal model that says which of two responses is better.

    Its two numbers are the logits of ``choices`` behind the prompt.

    Raises:
        ServerStartError: if a choice is not one token, or what :func:`build_classifier` says.
    """
    loaded = load_causal(source.folder, spec, adapter=source.adapter)
    tokens = [_only_token(loaded, choice) for choice in choices]
    if tokens[0] == tokens[1]:
        raise ServerStartError(f"choices: {choices} are the same token of this model; name two")
    weight_VD, bias_V = _output_head(loaded)
    readout = LastToken(
        weight_VD[tokens], None if bias_V is None else bias_V[tokens], softcap=_softcap(loaded)
    )
    parts = _Parts(_choose(loaded, readout, spec), _chat_renderers(loaded), "pairwise")
    return _built(name, source, loaded, parts, spec)


def build_likelihood(name: str, source: Source, spec: TransformerSpec) -> Built:
    """A causal model whose number is the log-probability of the candidate, in nats.

    Raises:
        ServerStartError: what :func:`build_classifier` says.
    """
    loaded = load_causal(source.folder, spec, adapter=source.adapter)
    readout = LogProbability(*_output_head(loaded), softcap=_softcap(loaded))
    renderers = _chat_renderers(loaded, marks_candidates=True)
    parts = _Parts(_choose(loaded, readout, spec), renderers, "implicit", "log_probability")
    tokens = sorted((number, token) for token, number in loaded.tokenizer.get_vocab().items())
    built = _built(name, source, loaded, parts, spec)
    return replace(built, vocabulary=text_digest(repr(tokens)))


@dataclass(frozen=True, slots=True)
class _Parts:
    chosen: Chosen
    new_renderer: Callable[[], Renderer]
    kind: Kind
    pooling: Any = "last_token"


def _built(  # one call gathers all that a model is
    name: str,
    source: Source,
    loaded: Loaded,
    parts: _Parts,
    spec: TransformerSpec,
    *,
    labels: tuple[str, ...] = (),
) -> Built:
    head = Head(
        architecture=type(loaded.model).__name__,
        num_labels=len(labels) or 1,
        pooling=parts.pooling,
    )
    template = parts.new_renderer().template
    identity = identify(
        source.folder,
        tokenizer=loaded.tokenizer_folder,
        template=template,
        dtype=loaded.dtype,
        head=head,
    )
    identity = identity.model_copy(update={"kind": parts.kind, "adapter": loaded.adapter})
    info = ModelInfo(
        name=name,
        fingerprint=fingerprint(identity),
        identity=identity,
        max_length=loaded.max_length,
        device=loaded.device,
        engine=parts.chosen.engine.name,
        engine_reason=parts.chosen.reason,
        is_deterministic=spec.deterministic,
        revision=source.revision,
        software=_software(parts.chosen),
    )
    return Built(
        engine=parts.chosen.engine,
        new_renderer=parts.new_renderer,
        info=info,
        batch_tokens=1 if spec.deterministic else loaded.max_batch_tokens,
        labels=labels,
    )


def _software(chosen: Chosen) -> dict[str, str]:
    versions = {each: version(each) for each in ("medpref", "torch", "transformers")}
    is_fused = isinstance(chosen.engine, PackedEngine) and chosen.engine.is_fused
    return {**versions, **(kernels_version() if is_fused else {})}


def with_parameters(info: ModelInfo, parameters: Parameters) -> ModelInfo:
    """``info`` with settings that decide the reward, and the fingerprint that they make."""
    identity: Identity = info.identity.model_copy(update={"parameters": parameters})
    return info.model_copy(update={"identity": identity, "fingerprint": fingerprint(identity)})


def _choose(loaded: Loaded, readout: Readout, spec: TransformerSpec) -> Chosen:
    if not spec.deterministic:
        return choose_engine(
            loaded.backbone,
            readout,
            spec.engine,
            max_length=loaded.max_length,
            batch_tokens=loaded.max_batch_tokens,
            kernels=spec.kernels,
        )
    if spec.engine == "packed":
        raise ServerStartError("deterministic: not with engine packed; leave engine at auto")
    alone = PaddedEngine(
        backbone_forward(loaded.backbone, readout),
        device=loaded.backbone.device,
        max_batch_tokens=1,
    )
    return Chosen(alone, "deterministic: every input is computed alone")


def _whole_model(loaded: Loaded, spec: TransformerSpec) -> Chosen:
    if spec.engine == "packed":
        raise ServerStartError(
            f"engine: {type(loaded.model).__name__} cannot be packed, since its pooling and head "
            "are its own; leave it at auto"
        )
    samples = [
        TokenInput(tuple(ids[: loaded.max_length]))
        for ids in loaded.tokenizer(
            ["Why?"] * 3, ["", "Rest.", "Saline rinses help. " * 4]
        ).input_ids
    ]
    return choose_padding(
        loaded.model, samples, batch_tokens=1 if spec.deterministic else loaded.max_batch_tokens
    )


def _chat_renderers(
    loaded: Loaded, *, marks_candidates: bool = False
) -> Callable[[], ChatRenderer]:
    def new_renderer() -> ChatRenderer:
        # A fast tokenizer serves one thread at a time.
        return ChatRenderer(
            copy.deepcopy(loaded.tokenizer),
            max_length=loaded.max_length,
            marks_candidates=marks_candidates,
        )

    return new_renderer


def _pair_renderers(loaded: Loaded) -> Callable[[], PairRenderer]:
    def new_renderer() -> PairRenderer:
        return PairRenderer(copy.deepcopy(loaded.tokenizer), max_length=loaded.max_length)

    return new_renderer


def _only_token(loaded: Loaded, choice: str) -> int:
    tokens: list[int] = loaded.tokenizer.encode(choice, add_special_tokens=False)
    if len(tokens) != 1:
        raise ServerStartError(
            f"choices: {choice!r} is {len(tokens)} tokens of this model; name two single tokens"
        )
    return tokens[0]


@torch.inference_mode()
def _output_head(loaded: Loaded) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight ``[V, D]`` and bias ``[V]`` of the logits, tried against those of the model itself."""
    head = loaded.model.get_output_embeddings()
    bias = getattr(head, "bias", None)
    ids = torch.tensor([[1, 2, 3]], device=loaded.device)
    hidden_BLD = loaded.backbone(input_ids=ids, use_cache=False).last_hidden_state
    logits = capped(linear(hidden_BLD, head.weight, bias), _softcap(loaded)).float().flatten()
    own = loaded.model(input_ids=ids, use_cache=False).logits.float().flatten()
    if relative_difference([tuple(own.tolist())], [tuple(logits.tolist())]) > HALF_TOLERANCE:
        raise ServerStartError(
            f"model: {type(loaded.model).__name__} scales its logits, which only heads of plain "
            "output embeddings are read without; give a model of another family"
        )
    return head.weight, bias


def _softcap(loaded: Loaded) -> float | None:
    cap: float | None = getattr(
        loaded.model.config.get_text_config(), "final_logit_softcapping", None
    )
    return cap
