"""What an evaluation of a reward model may be asked for. Light to import: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from benchmarks.endpoints.open import EndpointSettings
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import Ties

ControlName = Literal["shuffled_question", "empty_question", "swapped_order", "batch_composition"]
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)


class EvaluationConfig(EndpointSettings):
    """One evaluation: who is asked, what about, and what is kept."""

    judge: str | None = None
    """A generative judge in place of a reward model: an OpenAI-compatible endpoint, such as
    ``http://127.0.0.1:8000/v1``; --model is its name there."""

    judge_mode: JudgeMode = "ratings"
    """How the judge is asked, or was for stored scores: to rate each answer by itself, or for the
    best of a group. Stored scores of an evaluation tell it themselves."""

    judge_tokens: int = Field(default=1_024, ge=1)
    """Longest verdict of the judge."""

    scores: Path | None = None
    """Stored scores in place of a model: scores.jsonl of an earlier evaluation, the reference
    tool's files, or JudgeBench's of reward models."""

    name: str | None = None
    """What the model is called in tables and files; left out, what the endpoint calls it."""

    format: str | None = None
    """Layout of the data; left out, the benchmark's own, or what the first record tells."""

    split: str | None = None
    """Part of a folder or of a hub's data set; left out, the benchmark's own."""

    prior_sets: str | None = None
    """RewardBench's prior sets beside the core set: a folder, or allenai/preference-test-sets."""

    controls: tuple[ControlName, ...] = (
        "shuffled_question",
        "empty_question",
        "swapped_order",
        "batch_composition",
    )
    """What else is asked, with commas between: shuffled_question and empty_question take as long
    again as the benchmark; swapped_order is asked of rewards that see their rivals; none for
    nothing."""

    ties: Ties | None = None
    """What equal rewards are worth; left out, what the benchmark's rule says."""

    skip_bad: bool = False
    """Count records that cannot be read, in place of ending at the first."""

    limit: int | None = Field(default=None, ge=1)
    """Only so many groups, from the first; the results are partial."""

    seed: int = 0
    """Of intervals."""

    output: Path | None = None
    """Folder for all files; left out, evaluations/BENCHMARK/MODEL. The same command again goes on
    where it was."""

    @field_validator("controls", mode="before")
    @classmethod
    def _split_at_commas(cls, names: object) -> object:
        if names == "none":
            return ()
        return tuple(names.split(",")) if isinstance(names, str) else names

    @model_validator(mode="after")
    def _asks_one(self) -> EvaluationConfig:
        given = [
            f"--{name.replace('_', '-')}"
            for name in ("server", "model_path", "judge", "scores")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        if not given:
            raise ValueError(
                "nothing to ask; give --server URL, --model-path DIR, --judge URL or --scores FILE"
            )
        if self.judge is not None and self.model is None:
            raise ValueError("--model: missing; give the judge's name at its endpoint")
        return self
