"""The recipe: everything that determines a run, as one frozen model.

A recipe says where the data comes from, which models take part or how they are made, and how a
round samples, scores, pairs, trains, decides and deploys. It is checked before anything starts,
and the resolved recipe is written beside the run as ``config.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from corpora.worlds import WorldName
from foundation.settings import Settings
from loop.gate import GateConfig
from loop.monitors import MonitorConfig
from loop.pairs import PairConfig
from policy.config import PolicyEngineConfig
from policy.training.config import PreferenceConfig, ScratchConfig, SftConfig
from reward_server.training_config import RewardTrainingConfig

Dtype = Literal["auto", "float32", "bfloat16"]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
OptionalText = Annotated[str | None, BeforeValidator(lambda value: value or None)]


def is_local(model: str) -> bool:
    """Whether a model is named by a path; else it is a name on the hub."""
    return Path(model).exists() or model.startswith((".", "/", "~")) or model.count("/") != 1


class DataConfig(Settings):
    """Where questions, demonstrations and gold come from."""

    world: WorldName
    """``clinic`` (bundled), ``medical-meadow`` (a file of that format) or ``prompts`` (JSONL)."""
    path: OptionalPath = None
    """The data file, for the worlds that read one."""
    round_questions: int = Field(ge=1)
    """Questions that the policy answers in a round."""
    heldout_questions: int = Field(ge=1)
    """Questions for gate and gold; no training ever sees them."""
    reward_questions: int = Field(default=0, ge=0)
    """Questions that the base policy answers for the reward model's pairs, where a world asks."""


class PolicyConfig(Settings):
    """The base policy and the server it runs in."""

    model: OptionalText = None
    """A folder or a hub name. Without it the policy is made here: see ``scratch`` and ``sft``."""
    url: OptionalText = None
    """A policy server that runs already and serves this base as ``base``."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of the vLLM process."""
    parameters_billion: float | None = Field(default=None, gt=0)
    """Size of a hub model, for the plan; a local model is measured."""
    scratch: ScratchConfig | None = None
    """Shape of a policy made from nothing."""
    sft: SftConfig | None = None
    """Supervised fine-tuning on the world's demonstrations."""
    engine: PolicyEngineConfig = PolicyEngineConfig()
    """How vLLM runs it."""

    @model_validator(mode="after")
    def _has_a_base(self) -> Self:
        if self.model is None and (self.scratch is None or self.sft is None):
            raise ValueError(
                "give model=PATH_OR_ID, or [policy.scratch] and [policy.sft] to make one here"
            )
        if self.url is not None and self.model is None:
            raise ValueError("url needs model: the folder of the base policy that it serves")
        return self

    @model_validator(mode="after")
    def _has_positions_enough(self) -> Self:
        wanted = self.engine.max_model_len
        if self.made_here and wanted and wanted > self.made_here.max_positions:
            raise ValueError(
                f"engine.max_model_len {wanted} is above scratch.max_positions"
                f" {self.made_here.max_positions}; raise that"
            )
        return self

    @property
    def made_here(self) -> ScratchConfig | None:
        """The shape of a base that the run makes."""
        return self.scratch if self.model is None else None

    @property
    def longest(self) -> int | None:
        """Tokens of a conversation with its response; ``None`` where only the model knows."""
        if self.engine.max_model_len is not None:
            return self.engine.max_model_len
        return self.made_here.max_positions if self.made_here else None


class RewardConfig(Settings):
    """The reward model and the server it runs in."""

    model: OptionalText = None
    """A folder or a hub name. Without it the model is trained here: see ``training``."""
    url: OptionalText = None
    """A reward server that runs already."""
    api_key_env: OptionalText = None
    """Environment variable that holds the key of the server at ``url``; the key stands nowhere."""
    served_name: str = "default"
    """The model's name at the reward server."""
    dtype: Dtype = "auto"
    """Of the scoring forward."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of the reward server."""
    parameters_billion: float | None = Field(default=None, gt=0)
    """Size of a hub model, for the plan; a local model is measured."""
    training: RewardTrainingConfig | None = None
    """Bradley–Terry training on the world's pairs, from the base policy's weights."""

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if self.model is None and self.url is None and self.training is None:
            raise ValueError("give model=PATH_OR_ID, url=URL, or [reward.training] to train one")
        return self

    @model_validator(mode="after")
    def _has_a_server_for_its_key(self) -> Self:
        if self.api_key_env is not None and self.url is None:
            raise ValueError(
                "api_key_env needs url: the server that it opens; one that the run starts itself"
                " has no keys"
            )
        return self


class SamplingConfig(Settings):
    """How candidates are drawn."""

    candidates: int = Field(default=8, ge=2)
    """A question, in a round."""
    heldout_candidates: int = Field(default=2, ge=1)
    """A held-out question, from every policy that is judged."""
    temperature: float = Field(default=1.0, gt=0)
    """At 1 without top-p the KL estimate is unbiased."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the next token's distribution."""
    max_tokens: int = Field(default=128, ge=1)
    """Of one response; longer ones are truncated and never paired."""
    window: int = Field(default=32, ge=1)
    """Questions in flight at once between policy and reward server."""


class DeployConfig(Settings):
    """How a trained version is put into the running server."""

    keep_previous: int = Field(default=1, ge=0)
    """Older promoted versions that stay loaded, so that requests in flight on them finish."""


class ClusterConfig(Settings):
    """Where Ray places the processes."""

    ray_address: OptionalText = None
    """An existing cluster; without it Ray is started here for the run."""
    trainer_gpus: float = Field(default=0, ge=0)
    """GPUs of the trainer."""


class Recipe(Settings):
    """A run, resolved."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder."""
    seed: int = Field(default=0, ge=0)
    """Of data splits, training, sampling and resampling."""
    rounds: int = Field(default=3, ge=1)
    """Rounds to play."""
    data: DataConfig
    policy: PolicyConfig
    reward: RewardConfig
    sampling: SamplingConfig = SamplingConfig()
    pairs: PairConfig = PairConfig()
    preference: PreferenceConfig = PreferenceConfig()
    gate: GateConfig = GateConfig()
    monitors: MonitorConfig = MonitorConfig()
    deploy: DeployConfig = DeployConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _leaves_room_for_questions(self) -> Self:
        longest, response = self.policy.longest, self.sampling.max_tokens
        if longest is not None and response >= longest:
            raise ValueError(
                f"sampling.max_tokens: {response} leaves no room for a question in {longest}"
                " tokens; lower it, or raise policy.engine.max_model_len"
            )
        return self

    @model_validator(mode="after")
    def _serves_what_it_trains(self) -> Self:
        highest, rank = self.policy.engine.max_lora_rank, self.preference.lora.rank
        if self.policy.url is None and rank > highest:
            raise ValueError(
                f"preference.lora.rank: {rank} is above policy.engine.max_lora_rank {highest};"
                " raise that"
            )
        return self
