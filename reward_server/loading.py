"""From a spec to a scorer: folders are found, models loaded and checked, engines chosen.

Heavy libraries are imported when a kind needs them, so a server of rules alone loads no torch.
Blocking: call it on a thread that ends afterwards. What it returns is not started yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from reward_server.batcher import WARM_UP, Batcher, Engine
from reward_server.cache import RewardCache
from reward_server.device_thread import DeviceThread, OnDevice
from reward_server.errors import DeviceOutOfMemory, ServerStartError
from reward_server.pipeline import Pipeline
from reward_server.scorer import Scorer
from reward_server.scorers.ensemble import EnsembleScorer
from reward_server.scorers.judge import JudgeScorer
from reward_server.scorers.rules import RulesScorer
from reward_server.specs import (
    EnsembleSpec,
    ImplicitSpec,
    JudgeSpec,
    ModelSpec,
    MultiObjectiveSpec,
    PairwiseSpec,
    RulesSpec,
    SequenceClassificationSpec,
    TransformerSpec,
)

if TYPE_CHECKING:
    from reward_server.engine.build import Built, Source

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""What a model on the hub is fetched of: no pickles, no code."""

CODE_FILES = ("*.py",)
"""What is fetched besides where remote code is trusted."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that stands for the same files for ever; a branch or tag may move."""

UNCOMPUTABLE = (DeviceOutOfMemory, IndexError, RuntimeError, ValueError)
"""What a forward pass raises that does not fit a model or a device."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What all models of a server share."""

    cache: RewardCache
    max_pending_tokens: int
    bulk_patience_seconds: float
    on_failure: Callable[[BaseException], None] = lambda error: None
    device: DeviceThread = field(default_factory=DeviceThread)

    def pipeline(self, built: Built) -> Pipeline:
        """A pipeline around a model.

        Cache entries go by the model's fingerprint, and those of a deterministic one by themselves:
        the same model served without that promise gives rewards that differ in the last bits.

        Raises:
            ServerStartError: if the model cannot compute.
        """
        prove(built.engine)
        promise = " deterministic" if built.info.is_deterministic else ""
        batcher = Batcher(
            OnDevice(built.engine, self.device),
            max_batch_tokens=built.batch_tokens,
            max_pending_tokens=self.max_pending_tokens,
            patience_seconds=self.bulk_patience_seconds,
            on_failure=self.on_failure,
        )
        return Pipeline(
            batcher,
            built.new_renderer,
            fingerprint=built.info.fingerprint + promise,
            cache=self.cache,
            max_pending_tokens=self.max_pending_tokens,
        )


def prove(engine: Engine) -> None:
    """Computes a few tokens, while a failure still concerns this model alone.

    Raises:
        ServerStartError: if it cannot.
    """
    try:
        engine.forward([WARM_UP])
    except UNCOMPUTABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ServerStartError(
            f"model: it cannot compute {len(WARM_UP.ids)} tokens ({reason}); give one that fits "
            "this device"
        ) from None


def load_scorer(
    name: str, spec: ModelSpec, resources: Resources, members: Mapping[str, Scorer]
) -> Scorer:
    """The scorer that ``spec`` describes.

    Args:
        name: what requests call it.
        spec: what it is made of.
        resources: what it shares with the server's other models.
        members: scorers in service, for kinds that are made of others.

    Raises:
        ServerStartError: one line naming the setting, its value and the fix.
    """
    if isinstance(spec, JudgeSpec):
        return JudgeScorer(name, spec)
    if isinstance(spec, RulesSpec):
        return RulesScorer(name, spec)
    if isinstance(spec, EnsembleSpec):
        return EnsembleScorer(name, spec, check_members(name, spec, members))
    return _LOADERS[type(spec)](name, spec, resources)


def check_members(
    name: str, spec: EnsembleSpec, members: Mapping[str, Scorer]
) -> dict[str, Scorer]:
    """The members of an ensemble.

    Raises:
        ServerStartError: if one is not served.
    """
    missing = [member for member in spec.members if member not in members]
    if missing:
        raise ServerStartError(
            f"members: {', '.join(missing)} of ensemble {name} are not served; "
            f"served are {', '.join(members) or 'none'}"
        )
    return {member: members[member] for member in spec.members}


def _load_classifier(name: str, spec: TransformerSpec, resources: Resources) -> Scorer:
    from reward_server.engine.build import build_classifier  # noqa: PLC0415
    from reward_server.scorers.sequence_classification import (  # noqa: PLC0415
        SequenceClassificationScorer,
        check_one_label,
    )

    built = build_classifier(name, find_source(spec), spec, "sequence_classification")
    check_one_label(built.info)
    return SequenceClassificationScorer(built.info, resources.pipeline(built))


def _load_multi_objective(name: str, spec: MultiObjectiveSpec, resources: Resources) -> Scorer:
    from reward_server.engine.build import build_classifier, with_parameters  # noqa: PLC0415
    from reward_server.scorers.multi_objective import (  # noqa: PLC0415
        MultiObjectiveScorer,
        resolve_weights,
    )

    built = build_classifier(name, find_source(spec), spec, "multi_objective")
    weights = resolve_weights(built.labels, spec.objectives, spec.weights)
    info = with_parameters(built.info, dict(weights))
    return MultiObjectiveScorer(info, resources.pipeline(built), weights)


def _load_pairwise(name: str, spec: PairwiseSpec, resources: Resources) -> Scorer:
    from reward_server.engine.build import build_chooser, with_parameters  # noqa: PLC0415
    from reward_server.scorers.pairwise import PairwiseScorer, check_prompt  # noqa: PLC0415

    prompt = check_prompt(spec.prompt)
    built = build_chooser(name, find_source(spec), spec, spec.choices)
    first, second = spec.choices
    info = with_parameters(built.info, {"prompt": prompt, "first": first, "second": second})
    # The choices decide what the engine's numbers are, so its cache entries must go by them too.
    return PairwiseScorer(info, resources.pipeline(replace(built, info=info)), prompt)


def _load_implicit(name: str, spec: ImplicitSpec, resources: Resources) -> Scorer:
    from reward_server.engine.build import build_likelihood, with_parameters  # noqa: PLC0415
    from reward_server.scorers.implicit import ImplicitScorer  # noqa: PLC0415

    if spec.reference is None and spec.adapter is None:
        raise ServerStartError(
            "reference: missing; name the reference model, or an adapter whose base it is"
        )
    source = find_source(spec)
    policy = build_likelihood(name, source, spec)
    base = spec.model_copy(update={"adapter": None})
    if spec.reference is not None:
        update = {"model": spec.reference, "revision": spec.reference_revision}
        base = base.model_copy(update=update)
    reference = build_likelihood(name, find_source(base), base)
    # It gets the policy's token ids, so its own template does not matter.
    if reference.vocabulary != policy.vocabulary:
        raise ServerStartError(
            f"reference: {base.model} has another vocabulary than the policy; give its reference"
        )
    if (reference.info.max_length or 0) < (policy.info.max_length or 0):
        raise ServerStartError(
            f"reference: {base.model} reads {reference.info.max_length} tokens and the policy "
            f"{policy.info.max_length}; set max_length to what both read"
        )
    fingerprint = reference.info.fingerprint
    return ImplicitScorer(
        with_parameters(policy.info, {"beta": spec.beta, "reference": fingerprint}),
        resources.pipeline(policy),
        resources.pipeline(reference),
        beta=spec.beta,
    )


_LOADERS: dict[type, Callable[..., Scorer]] = {
    SequenceClassificationSpec: _load_classifier,
    MultiObjectiveSpec: _load_multi_objective,
    PairwiseSpec: _load_pairwise,
    ImplicitSpec: _load_implicit,
}


def find_source(spec: TransformerSpec) -> Source:
    """The folders of a model and its adapter, fetched from the hub where they are not here.

    Raises:
        ServerStartError: if there is no such model, or no safetensors weights in it.
    """
    from reward_server.engine.build import Source  # noqa: PLC0415

    folder = find_model(spec)
    adapter = None if spec.adapter is None else Path(spec.adapter)
    if adapter is not None and not _is_folder(adapter):
        raise ServerStartError(f"adapter: {adapter} is not a folder; give that of a PEFT adapter")
    revision = None if _is_folder(Path(spec.model)) else folder.name
    return Source(folder, adapter, revision)


def find_model(spec: TransformerSpec) -> Path:
    """The folder of a path, or of a model name in the hub's cache or on the hub.

    Raises:
        ServerStartError: if there is no such folder, or no safetensors weights in it.
    """
    folder = Path(spec.model)
    if not _is_folder(folder):
        folder = _fetch(spec)
    if not any(folder.glob("*.safetensors")):
        raise ServerStartError(f"model: {folder} holds no *.safetensors; save the model as such")
    return folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no name of a file, or behind a closed door
        return False


def _fetch(spec: TransformerSpec) -> Path:
    is_pinned = spec.revision is not None and COMMIT.fullmatch(spec.revision) is not None
    may_float = is_pinned or spec.allow_floating_revision
    patterns = HUB_FILES + (CODE_FILES if spec.trust_remote_code else ())
    try:
        folder = snapshot_download(
            spec.model,
            revision=spec.revision,
            # What will be refused is asked for its commit only.
            allow_patterns=list(patterns) if may_float else ["config.json"],
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError):
        raise ServerStartError(
            f"model: {spec.model} is neither a folder nor a model that the hub gives; "
            "give the path of a reward model"
        ) from None
    if not may_float:
        commit = Path(folder).name
        given = "missing" if spec.revision is None else f"{spec.revision!r} is no commit"
        raise ServerStartError(
            f"revision: {given} for {spec.model}, which may change on the hub; "
            f"--revision {commit} is what it is now (or --allow-floating-revision)"
        )
    return Path(folder)
