"""Settings of the reward server. Light to import: no torch, no web framework."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from reward_server.specs import ModelSpec, SequenceClassificationSpec, TransformerSpec


class RewardServerConfig(TransformerSpec):
    """Reward models behind one port.

    Flags describe one sequence classification model and the server; a settings file may hold a
    ``[models.NAME]`` table for each further one, of any kind.
    """

    model: str | None = Field(default=None, min_length=1)  # type: ignore[assignment]  # may be absent
    """Folder in the Hugging Face layout with safetensors weights, or the name of one on the hub."""

    name: str = Field(default="default", min_length=1)
    """What requests call the model."""

    models: dict[str, ModelSpec] = Field(default_factory=dict)
    """Further models by name, of any kind."""

    aliases: dict[str, str] = Field(default_factory=dict)
    """Further names of models."""

    calibrations: dict[str, Path] = Field(default_factory=dict)
    """Calibration artefacts by the name of their model, from ``medpref calibrate``."""

    canaries: dict[str, Path] = Field(default_factory=dict)
    """Canary sets by the name of their model, from ``medpref calibrate --canary``."""

    calibration: Path | None = None
    """Calibration artefact of the model, from medpref calibrate."""

    canary: Path | None = None
    """Canary set of the model, from medpref calibrate --canary; scored again now and then."""

    canary_interval_seconds: float = Field(default=300.0, gt=0)
    """Seconds between two looks at the canaries."""

    host: str = "127.0.0.1"
    """Address to listen on; another than a loopback address needs keys."""

    port: int = Field(default=8100, ge=0, le=65535)
    """Port to listen on; 0 picks a free one, which the ``server.ready`` event names."""

    keys: Path | None = None
    """Key file, from medpref keys add; with it every scoring request needs a key."""

    audit: Path | None = None
    """File that gets a line for every scoring request; without texts unless told to."""

    audit_text: bool = False
    """Whether the audit log holds conversations and candidates."""

    audit_required: bool = False
    """Whether a request that cannot be logged gets no rewards."""

    audit_sampling: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that the audit log holds."""

    wires: bool = True
    """Whether the routes of other reward servers are there too."""

    max_pending_tokens: int = Field(default=262_144, ge=1)
    """Tokens of one model admitted and not yet computed; above it requests get 429."""

    bulk_patience_seconds: float = Field(default=2.0, gt=0)
    """How long bulk work waits at most for its next batch while interactive work goes first."""

    cache_entries: int = Field(default=65_536, ge=0)
    """Rewards kept by content; 0 computes everything again."""

    max_groups_per_request: int = Field(default=256, ge=1)
    """Groups of one request."""

    max_candidates_per_group: int = Field(default=256, ge=1)
    """Candidates of one group."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one request body."""

    max_body_seconds: float = Field(default=60.0, gt=0)
    """How long a request body may take to arrive."""

    drain_seconds: int = Field(default=60, ge=1)
    """How long a server that was asked to stop goes on answering admitted requests."""

    @model_validator(mode="after")
    def _serves_something(self) -> Self:
        if self.model is None and not self.models:
            raise ValueError("model: missing; give --model, or --config with a [models.NAME] table")
        if self.model is not None and self.name in self.models:
            raise ValueError(
                f"name: {self.name!r} is also a [models.{self.name}] table; rename one"
            )
        return self

    @model_validator(mode="after")
    def _names_its_own_models(self) -> Self:
        served = self._names()
        for table in ("calibrations", "canaries"):
            for name in getattr(self, table):
                self._check_served(name, f"{table}: {name!r}")
        for field in ("calibration", "canary"):
            if getattr(self, field) is not None:
                self._check_served(self.name, f"{field}: it is for name {self.name!r}, which")
        for alias, name in self.aliases.items():
            self._check_served(name, f"aliases: {alias!r} leads to {name!r}, which")
            if alias in served:
                raise ValueError(f"aliases: {alias!r} is the name of a model; take another one")
        return self

    def _check_served(self, name: str, what: str) -> None:
        served = self._names()
        if name not in served:
            known = ", ".join(map(repr, served))
            raise ValueError(f"{what} is no model of this server; it has {known}")

    def _names(self) -> list[str]:
        return [*([] if self.model is None else [self.name]), *self.models]

    def specs(self) -> dict[str, ModelSpec]:
        """All models by name, that of the flags first; members of ensembles before them."""
        specs: dict[str, ModelSpec] = {}
        if self.model is not None:
            given = self.model_dump(include=set(TransformerSpec.model_fields))
            specs[self.name] = SequenceClassificationSpec.model_validate(given)
        return specs | dict(
            sorted(self.models.items(), key=lambda item: item[1].kind == "ensemble")
        )

    def calibration_of(self, name: str) -> Path | None:
        """The calibration artefact of a model."""
        given = self.calibration if name == self.name else None
        return given or self.calibrations.get(name)

    def canary_of(self, name: str) -> Path | None:
        """The canary set of a model."""
        given = self.canary if name == self.name else None
        return given or self.canaries.get(name)
