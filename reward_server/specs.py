"""What a reward model is made of: one settings type a kind, told apart by ``kind``.

A server's ``[models.NAME]`` tables and the body of a hot swap are these. Light to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, TypeAdapter

from foundation.settings import Settings

DTypeChoice = Literal["float32", "bfloat16", "float16", "auto"]
EngineChoice = Literal["auto", "packed", "padded"]
KernelChoice = Literal["auto", "plain"]


class TransformerSpec(Settings):
    """What every kind with a model of its own has in common."""

    model: str = Field(min_length=1)
    """Folder in the Hugging Face layout with safetensors weights, or the name of one on the hub."""

    revision: str | None = None
    """Commit on the hub (40 hex digits), for a model from there."""

    allow_floating_revision: bool = False
    """Whether a model from the hub may be named without its commit, though its name may stand for
    other weights tomorrow."""

    adapter: str | None = None
    """Folder of a PEFT adapter to lay over the model."""

    dtype: DTypeChoice = "auto"
    """Precision of the forward pass; auto is bfloat16 where the machine computes in it."""

    engine: EngineChoice = "auto"
    """How inputs share a forward pass; auto is packed where that proves to give the rewards of the
    plain forward, else padded."""

    kernels: KernelChoice = "auto"
    """What computes norms and rotary embeddings of a packed forward pass on a CPU; auto is vLLM's
    fused kernels where it is installed and they prove to give the same, plain is transformers."""

    deterministic: bool = False
    """Whether every input is computed alone, so that its reward is the same to the last bit
    whatever is scored beside it. Slower."""

    max_length: int | None = Field(default=None, ge=2)
    """Longest rendered input in tokens; left out, it is what the model was built for."""

    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one forward pass; left out, it is what suits the device. A single longer input
    runs alone."""

    trust_remote_code: bool = False
    """Whether code that lies beside the weights may run."""


class SequenceClassificationSpec(TransformerSpec):
    """A model with a head of one logit: Bradley-Terry reward models."""

    kind: Literal["sequence_classification"] = "sequence_classification"


class MultiObjectiveSpec(TransformerSpec):
    """A model with a head of several logits, weighed into one reward."""

    kind: Literal["multi_objective"]

    objectives: tuple[str, ...] = ()
    """Names of the logits in their order; left out, they are those of ``id2label``."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each objective in the reward; left out, all weigh the same and sum to 1."""


class PairwiseSpec(TransformerSpec):
    """A causal model that names the better of two responses; asked in both orders."""

    kind: Literal["pairwise"]

    prompt: str = ""
    """Text of the comparison with ``{conversation}``, ``{response_a}`` and ``{response_b}``; left
    out, it is that of RLHFlow's pair-preference models."""

    choices: tuple[str, str] = ("A", "B")
    """What the model answers when the first and when the second response is better."""


class ImplicitSpec(TransformerSpec):
    """The reward that a DPO policy stands for: beta times its log-ratio to the reference."""

    kind: Literal["implicit"]

    reference: str | None = None
    """Folder or hub name of the reference model; left out, it is the model without its adapter."""

    reference_revision: str | None = None
    """Commit of the reference model on the hub."""

    beta: PositiveFloat = 0.1
    """The beta that the policy was trained with."""


class JudgeSpec(Settings):
    """A generative judge behind an OpenAI-compatible chat endpoint."""

    kind: Literal["judge"]

    url: str = Field(min_length=1)
    """Where the endpoint listens, such as ``http://127.0.0.1:8000/v1``."""

    model: str = Field(min_length=1)
    """What the endpoint calls the model."""

    api_key_env: str | None = None
    """Environment variable that holds the endpoint's key."""

    rubric: Path | None = None
    """File with the rubric; left out, it is the published one of this project."""

    samples: int = Field(default=1, ge=1, le=64)
    """Verdicts a candidate; their mean is the reward, their spread the disagreement."""

    temperature: NonNegativeFloat = 0.0
    max_tokens: int = Field(default=512, ge=1)
    """Longest verdict."""

    timeout_seconds: PositiveFloat = 60.0
    concurrency: int = Field(default=8, ge=1)
    """Verdicts that are under way together."""

    attempts: int = Field(default=3, ge=1)
    """Requests for one verdict at most, unreadable ones and failures counted."""


class AnswerKeyRule(Settings):
    """The candidate names the group's reference answer."""

    rule: Literal["answer_key"]
    weight: float = 1.0

    form: Literal["choice", "text", "number"] = "choice"
    """An option's letter, a text, or a number."""

    tolerance: NonNegativeFloat = 1e-6
    """How far a number may be off, relative to the reference."""


class FormatRule(Settings):
    """The candidate matches a regular expression."""

    rule: Literal["format"]
    pattern: str = Field(min_length=1)
    weight: float = 1.0


class LengthRule(Settings):
    """The candidate has between so and so many words."""

    rule: Literal["length"]
    min_words: int = Field(default=0, ge=0)
    max_words: int | None = Field(default=None, ge=1)
    weight: float = 1.0


Rule = Annotated[AnswerKeyRule | FormatRule | LengthRule, Field(discriminator="rule")]


class RulesSpec(Settings):
    """Verifiable rules: the weighted sum of those that hold."""

    kind: Literal["rules"]
    rules: tuple[Rule, ...] = Field(min_length=1)


class EnsembleSpec(Settings):
    """Several reward models of this server put together."""

    kind: Literal["ensemble"]

    members: tuple[str, ...] = Field(min_length=2)
    """Names of served models."""

    combine: Literal["mean", "min", "mean_minus_std"] = "mean"
    penalty: NonNegativeFloat = 1.0
    """Standard deviations to take off, for ``mean_minus_std``."""

    scales: dict[str, PositiveFloat] = Field(default_factory=dict)
    """What each member's reward is divided by first; left out, 1."""


ModelSpec = Annotated[
    SequenceClassificationSpec
    | MultiObjectiveSpec
    | PairwiseSpec
    | ImplicitSpec
    | JudgeSpec
    | RulesSpec
    | EnsembleSpec,
    Field(discriminator="kind"),
]
MODEL_SPEC: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)
