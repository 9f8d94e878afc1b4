"""What ``medpref bench qa`` may be asked for. Light to import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from benchmarks.qa.answered import Mode
from benchmarks.qa.likelihood import Normalise, ScoredBy
from benchmarks.qa.prompts import Form
from corpora.questions.registry import FORMATS
from foundation.settings import Settings
from policy.protocol import BASE

_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class SuiteSource:
    """A suite as it was asked for."""

    name: str
    source: str
    format: str | None
    """``None`` for what the first record tells."""


class QaConfig(Settings):
    """One evaluation: who is asked, which suites, how, and what is kept."""

    server: str = Field(min_length=1)
    """URL of the policy server, such as http://127.0.0.1:8000."""

    version: str = BASE
    """The policy version that answers, as the server names it."""

    suites: dict[str, str] = Field(min_length=1)
    """Name → source, or source:format."""

    modes: tuple[Mode, ...] = Field(default=("greedy",), min_length=1)
    """How answers are had, with commas between: greedy, self-consistency, likelihood. The overall
    score is that of the first."""

    form: Form = "chat"
    """Form of the prompt; instruction is Alpaca's, for bases that are served with a template that
    passes texts through."""

    max_tokens: int = Field(default=1_024, ge=1)
    """Longest answer, in tokens."""

    samples: int = Field(default=10, ge=2)
    """Answers that vote, in self-consistency."""

    temperature: float = Field(default=0.7, gt=0)
    """Of the answers that vote."""

    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of the answers that vote."""

    scored_by: ScoredBy = "letter"
    """What likelihood scores: the letter, with all options in sight, or the text, with none."""

    normalise: Normalise = "none"
    """What likelihood divides an option's log-probability by."""

    split: str | None = None
    """Part of a folder or of a hub's data set; left out, the one that is published for each
    layout."""

    ids: Path | None = None
    """File with the ids of the PubMedQA questions to ask, such as test_ground_truth.json; left
    out, all of them."""

    concurrency: int = Field(default=64, ge=1)
    """Questions under way together."""

    limit: int | None = Field(default=None, ge=1)
    """Only so many questions of each suite, from the first; the results are partial."""

    skip_bad: bool = False
    """Count records that cannot be read, in place of ending at the first."""

    seed: int = 0
    """Of answers and intervals."""

    retry_seconds: float = Field(default=120, ge=0)
    """How long a server that is out of reach is waited for."""

    output: Path | None = None
    """Folder for all files; left out, evaluations/medical-qa/VERSION. The same command again goes
    on where it was."""

    restart: bool = False
    """Forget the answers in the folder."""

    @field_validator("modes", mode="before")
    @classmethod
    def _split_at_commas(cls, names: object) -> object:
        return tuple(dict.fromkeys(names.split(","))) if isinstance(names, str) else names

    @field_validator("suites", mode="before")
    @classmethod
    def _split_at_equals(cls, suites: object) -> object:
        return dict(_named(suites)) if isinstance(suites, list) else suites

    @property
    def longest_answer(self) -> int | None:
        """Tokens that the policy may have to write; ``None`` if it only says what is likely."""
        return None if set(self.modes) == {"likelihood"} else self.max_tokens

    @property
    def folder(self) -> Path:
        """Where all files are."""
        return self.output or Path("evaluations/medical-qa") / self.version

    @property
    def sources(self) -> list[SuiteSource]:
        """The suites, in order; what follows the last colon is a format where it names one."""
        found = []
        for name, value in self.suites.items():
            source, colon, format = value.rpartition(":")
            named = bool(colon) and format in FORMATS
            found.append(SuiteSource(name, source if named else value, format if named else None))
        return found


def _named(suites: list[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for each in suites:
        name, equals, source = each.partition("=")
        if not equals or not source or not _NAME.fullmatch(name):
            raise ValueError(f"--suite {each}: write it as NAME=SOURCE or NAME=SOURCE:FORMAT")
        if name in seen:
            raise ValueError(f"--suite {each}: {name} is there already; give each its own name")
        seen.add(name)
        yield name, source
