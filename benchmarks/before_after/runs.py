"""What a run folder says of its run: base and final policy, world, seed, engine, sampling.

Reads the files that are there for everyone, ``config.json``, ``summary.json`` and ``policies/``,
and of them only what the comparison needs. Knows no ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from benchmarks.errors import BenchmarkError
from corpora.world import World
from corpora.worlds import WorldName, open_world
from foundation.cache import digest_files
from policy.client import SamplingParameters
from policy.config import PolicyEngineConfig
from policy.protocol import BASE

CONFIG, SUMMARY, POLICIES = "config.json", "summary.json", "policies"
WEIGHTS = "adapter_model.safetensors"

M = TypeVar("M", bound=BaseModel)


class _Data(BaseModel):
    world: WorldName
    path: Path | None
    heldout_questions: int


class _Policy(BaseModel):
    model: str | None
    engine: PolicyEngineConfig


class _Sampling(BaseModel):
    heldout_candidates: int
    temperature: float
    top_p: float
    max_tokens: int


class _Lora(BaseModel):
    rank: int


class _Preference(BaseModel):
    lora: _Lora


class _Config(BaseModel):
    seed: int
    data: _Data
    policy: _Policy
    sampling: _Sampling
    preference: _Preference


class _Level(BaseModel):
    gold: float | None


class _Final(_Level):
    policy_version: str


class _Summary(BaseModel):
    run: str
    status: Literal["running", "completed", "failed"]
    baseline: _Level
    final: _Final


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run that has promoted something."""

    name: str
    status: Literal["running", "completed", "failed"]
    seed: int
    world_name: WorldName
    world_path: Path | None
    heldout_questions: int
    heldout_candidates: int
    temperature: float
    top_p: float
    max_tokens: int
    engine: PolicyEngineConfig
    lora_rank: int
    base: str
    """Folder or hub name of the base policy."""

    version: str
    """The last promoted version."""

    adapter: Path
    """Its folder."""

    gold: tuple[float | None, float | None]
    """Of base and final policy, as the run itself measured it."""

    @property
    def digest(self) -> str:
        """16 hex digits over the final policy's weights."""
        return digest_files(self.adapter / WEIGHTS)

    def open_world(self) -> World:
        """The data, split as in the run.

        Raises:
            CorpusError: if its file is not there any more, or cannot be used.
        """
        return open_world(self.world_name, path=self.world_path, seed=self.seed)

    def sampling(self, *, seed: int) -> SamplingParameters:
        """How the run draws the candidates of a held-out question."""
        return SamplingParameters(
            candidates=self.heldout_candidates,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=seed,
        )


def read_run(folder: Path) -> TrainedRun:
    """Reads the run of a folder.

    Raises:
        BenchmarkError: if there is no run, no round is finished, nothing was promoted, or the
            promoted policy is gone.
    """
    if not (folder / CONFIG).is_file():
        raise BenchmarkError(
            f"RUN_DIR: {folder}: no run there (no {CONFIG}); give the folder of a run"
        )
    if not (folder / SUMMARY).is_file():
        raise BenchmarkError(
            f"RUN_DIR: {folder}: no round is finished (no {SUMMARY}); go on with the run first"
        )
    config, summary = _read(_Config, folder / CONFIG), _read(_Summary, folder / SUMMARY)
    version = summary.final.policy_version
    if version == BASE:
        raise BenchmarkError(
            f"RUN_DIR: {folder}: nothing was promoted, so base and final policy are the same;"
            " evaluate the base alone with `medpref bench qa`"
        )
    return TrainedRun(
        name=summary.run,
        status=summary.status,
        seed=config.seed,
        world_name=config.data.world,
        world_path=config.data.path,
        heldout_questions=config.data.heldout_questions,
        **config.sampling.model_dump(),
        engine=config.policy.engine,
        lora_rank=config.preference.lora.rank,
        base=_base(folder, config.policy.model),
        version=version,
        adapter=_adapter(folder, version),
        gold=(summary.baseline.gold, summary.final.gold),
    )


def _base(folder: Path, model: str | None) -> str:
    """The folder; a base from the hub stands in the configuration only."""
    home = folder / POLICIES / BASE
    if home.is_dir():
        return str(home)
    if model is None:
        raise BenchmarkError(f"RUN_DIR: {home}: no base policy there; give a whole run folder")
    return model


def _adapter(folder: Path, version: str) -> Path:
    home = folder / POLICIES / version
    if not (home / WEIGHTS).is_file():
        raise BenchmarkError(
            f"RUN_DIR: {home}: no adapter there (no {WEIGHTS}); give a whole run folder"
        )
    return home


def _read(model: type[M], path: Path) -> M:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "content"
        raise BenchmarkError(
            f"RUN_DIR: {path}: {field}: {problem['msg']}; give a run of this version"
        ) from None
