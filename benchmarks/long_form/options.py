"""What ``medpref bench long-form`` may be asked for. Light to import."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, model_validator

from foundation.settings import Settings
from policy.protocol import BASE

OUTPUT = Path("evaluations/long-form")

OF_A_POLICY = ("version", "max_tokens")


class LongFormConfig(Settings):
    """One evaluation: who answers, who judges, and what is kept."""

    judge: str = Field(min_length=1)
    """OpenAI-compatible endpoint of the judge, such as http://127.0.0.1:8000/v1."""

    judge_model: str = Field(min_length=1)
    """What the endpoint calls the judge."""

    api_key_env: str | None = None
    """Environment variable that holds the key of the judge's endpoint."""

    judge_tokens: int = Field(default=512, ge=1)
    """Longest verdict, in tokens, with the thoughts before it."""

    judge_concurrency: int = Field(default=16, ge=1)
    """Verdicts under way together."""

    policy: str | None = None
    """URL of the policy server that answers, greedily."""

    version: str = BASE
    """The policy version that answers, as the server names it."""

    max_tokens: int = Field(default=1_024, ge=1)
    """Longest answer, in tokens."""

    answers: Path | None = None
    """File with answers in place of a policy: records of Question and result, as published."""

    name: str | None = None
    """What the answers' author is called in tables; left out, the version or the file's name."""

    concurrency: int = Field(default=8, ge=1)
    """Questions under way together."""

    limit: int | None = Field(default=None, ge=1)
    """Only so many questions, from the first; the results are partial."""

    skip_bad: bool = False
    """Count records that cannot be read, in place of ending at the first."""

    seed: int = 0
    """Of the intervals."""

    retry_seconds: float = Field(default=120, ge=0)
    """How long a server that is out of reach is waited for."""

    output: Path | None = None
    """Folder for all files; left out, evaluations/long-form/NAME. The same command again goes on
    where it was."""

    restart: bool = False
    """Forget the answers and verdicts in the folder."""

    @property
    def author(self) -> str:
        """Who wrote the answers."""
        return self.name or (self.answers.stem if self.answers else self.version)

    @property
    def folder(self) -> Path:
        """Where all files are."""
        return self.output or OUTPUT / (
            re.sub(r"[^\w.-]+", "-", self.author).strip("-.") or "model"
        )

    @model_validator(mode="after")
    def _has_one_author(self) -> LongFormConfig:
        if self.policy is None and self.answers is None:
            raise ValueError("nothing to judge; give --policy URL or --answers FILE")
        if self.policy is not None and self.answers is not None:
            raise ValueError("--policy and --answers: give one of them")
        for field in OF_A_POLICY:
            if self.answers is not None and field in self.model_fields_set:
                flag = f"--{field.replace('_', '-')}"
                raise ValueError(f"{flag}: is for --policy; leave it out")
        return self
