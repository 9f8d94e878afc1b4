"""What ``medpref bench before-after`` may be asked for. Light to import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from benchmarks.before_after.heldout import HeldoutMode
from benchmarks.qa.answered import Mode
from benchmarks.qa.likelihood import Normalise, ScoredBy
from benchmarks.qa.options import QaConfig, SuiteSource
from benchmarks.qa.prompts import Form
from foundation.settings import Settings, check

_NAME = re.compile(r"\w[\w.-]*")


class BeforeAfterConfig(Settings):
    """One comparison of a run's base and final policy: where they are served, and what is asked."""

    server: str | None = None
    """URL of a policy server that serves both versions; left out, one is started for the job."""

    suites: dict[str, str] = Field(default_factory=dict)
    """Medical questions: name → source, or source:format."""

    general: dict[str, str] = Field(default_factory=dict)
    """Questions of general ability, shown apart: name → source, or source:format."""

    world_modes: tuple[HeldoutMode, ...] = Field(
        default=("sampled", "greedy", "references"), min_length=1
    )
    """What is done with the run's own held-out questions, with commas between: sampled, as the
    recipe samples them; greedy; references, which asks how likely the known answers are."""

    modes: tuple[Mode, ...] = Field(default=("greedy",), min_length=1)
    """How answers to the suites are had, with commas between: greedy, self-consistency,
    likelihood."""

    form: Form = "chat"
    """Form of the suites' prompts; instruction is Alpaca's, for bases that are served with a
    template that passes texts through."""

    max_tokens: int = Field(default=1_024, ge=1)
    """Longest answer to a question of the suites, in tokens."""

    scored_by: ScoredBy = "letter"
    """What likelihood scores: the letter, with all options in sight, or the text, with none."""

    normalise: Normalise = "none"
    """What likelihood divides an option's log-probability by."""

    split: str | None = None
    """Part of a folder or of a hub's data set; left out, the one that is published for each
    layout."""

    ids: Path | None = None
    """File with the ids of the PubMedQA questions to ask; left out, all of them."""

    questions: int | None = Field(default=None, ge=1)
    """Only so many held-out questions, and of each suite, from the first; the results are
    partial."""

    concurrency: int = Field(default=64, ge=1)
    """Questions under way together."""

    skip_bad: bool = False
    """Count records that cannot be read, in place of ending at the first."""

    seed: int = 0
    """Of answers and intervals; the data are split by the run's own."""

    retry_seconds: float = Field(default=120, ge=0)
    """How long a server that is out of reach is waited for."""

    output: Path | None = None
    """Folder for all files; left out, evaluations/before-after/ with the name of the run folder.
    The same command again goes on where it was."""

    restart: bool = False
    """Forget the answers in the folder."""

    @field_validator("modes", "world_modes", mode="before")
    @classmethod
    def _split_at_commas(cls, names: object) -> object:
        return tuple(dict.fromkeys(names.split(","))) if isinstance(names, str) else names

    @field_validator("suites", "general", mode="before")
    @classmethod
    def _split_at_equals(cls, suites: object) -> object:
        if not isinstance(suites, list):
            return suites
        named: dict[str, str] = {}
        for each in suites:
            name, equals, source = each.partition("=")
            if not equals or not source or not _NAME.fullmatch(name):
                raise ValueError(f"{each}: write it as NAME=SOURCE or NAME=SOURCE:FORMAT")
            if name in named:
                raise ValueError(f"{each}: {name} is there already; give each its own name")
            named[name] = source
        return named

    @model_validator(mode="after")
    def _has_no_suite_twice(self) -> Self:
        for name in self.suites.keys() & self.general.keys():
            raise ValueError(f"--general {name}: is a --suite as well; give each its own name")
        return self

    def folder(self, run: Path) -> Path:
        """Where all files are."""
        return self.output or Path("evaluations/before-after") / run.resolve().name

    def qa(self, name: str, version: str, *, server: str, folder: Path) -> QaConfig:
        """How one version is asked one suite.

        Args:
            name: of the suite.
            version: who answers.
            server: where.
            folder: of the whole job.

        Raises:
            SettingsError: naming what the suite's own command would refuse.
        """
        source = {**self.suites, **self.general}[name]
        given = self.model_dump(include=QaConfig.model_fields.keys() - {"suites", "output"})
        own = {
            "server": server,
            "version": version,
            "suites": [f"{name}={source}"],
            "limit": self.questions,
            "output": folder / "suites" / name / version,
        }
        return check(QaConfig, given | own, source="command line")

    def source(self, name: str, *, folder: Path) -> tuple[SuiteSource, QaConfig]:
        """A suite and how it is read, whoever is asked."""
        config = self.qa(name, "base", server="any", folder=folder)
        return config.sources[0], config
