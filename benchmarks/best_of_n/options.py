"""What ``medpref bench best-of-n`` may be asked for. Light to import: no torch."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, model_validator

from benchmarks.endpoints.open import EndpointSettings
from benchmarks.qa.prompts import Form
from corpora.worlds import WorldName
from policy.protocol import BASE

OUTPUT = Path("evaluations/best-of-n")

OF_SUITES = ("form", "split", "ids", "limit", "skip_bad")
OF_A_WORLD = ("world_path", "questions")


class BestOfNConfig(EndpointSettings):
    """One evaluation: who answers, what about, who gives the rewards, and what is kept."""

    policy: str = Field(min_length=1)
    """URL of the policy server, such as http://127.0.0.1:8000."""

    version: str = BASE
    """The policy version that answers, as the server names it."""

    samples: int = Field(default=16, ge=2)
    """Answers to each question: the largest N."""

    temperature: float = Field(default=0.7, gt=0)
    """Of the answers."""

    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of the answers."""

    max_tokens: int = Field(default=1_024, ge=1)
    """Longest answer, in tokens."""

    vote_temperature: float = Field(default=1.0, gt=0)
    """Of the rewards, where they weigh votes: exp(reward / temperature)."""

    world: WorldName | None = None
    """Held-out questions of a world in place of suites: its gold says what an answer is worth."""

    world_path: Path | None = None
    """The file of a world that reads one."""

    questions: int = Field(default=200, ge=1)
    """Held-out questions of a world, from the first."""

    form: Form = "chat"
    """Form of a suite's prompts; instruction is Alpaca's."""

    split: str | None = None
    """Part of a suite's folder or of a hub's data set; left out, the one that is published."""

    ids: Path | None = None
    """File with the ids of the PubMedQA questions to ask; left out, all of them."""

    limit: int | None = Field(default=None, ge=1)
    """Only so many questions of each suite, from the first; the results are partial."""

    skip_bad: bool = False
    """Count records of suites that cannot be read, in place of ending at the first."""

    policy_concurrency: int = Field(default=64, ge=1)
    """Questions that the policy answers together."""

    policy_retry_seconds: float = Field(default=120, ge=0)
    """How long a policy server that is out of reach is waited for."""

    seed: int = 0
    """Of answers, votes and intervals, and of a world's split: give that of the run whose policy is
    evaluated, or questions are held out that it was trained on."""

    output: Path | None = None
    """Folder for all files; left out, evaluations/best-of-n/VERSION/REWARD_MODEL. The same command
    again goes on where it was."""

    samples_folder: Path | None = None
    """Folder of the answers, which several reward models may share; it may be that of an evaluation
    of medical questions. Left out, samples in the output folder, or beside it where that is left
    out too."""

    restart: bool = False
    """Forget the rewards in the folder, and the answers too where no samples folder is given."""

    @property
    def forgets_samples(self) -> bool:
        """Whether answers of an earlier run may go: not those that others may share."""
        return self.restart and self.samples_folder is None

    def folder_of(self, reward_model: str, fingerprint: str | None) -> Path:
        """Where results and rewards are."""
        name = re.sub(r"[^\w.-]+", "-", reward_model).strip("-.") or "model"
        name = name if fingerprint is None else f"{name}-{fingerprint[:8]}"
        return self.output or OUTPUT / self.version / name

    @property
    def folder_of_answers(self) -> Path:
        """Where answers are; reward models that share them choose from the same samples."""
        return self.samples_folder or (self.output or OUTPUT / self.version) / "samples"

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> BestOfNConfig:
        others, of = (OF_A_WORLD, "a world") if self.world is None else (OF_SUITES, "suites")
        for name in others:
            if name in self.model_fields_set:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag}: is for {of} only; leave it out")
        return self
