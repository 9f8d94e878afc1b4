"""``results.json``: what an evaluation of a reward model found, whole and in parts.

The names are a face: whoever compares models reads them. Scores are shares between 0 and 1; what
does not apply is ``null``, never missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import ScoresError
from foundation.words import SPACE, count

Interval95 = tuple[float, float]

RESULTS = "results.json"

LONGEST_ERROR = 200
"""Characters of an error that are told as an example."""

R = TypeVar("R", bound=BaseModel)


class Document(BaseModel):
    """Base of what jobs write: an unknown field and a number without end are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Score(Document):
    """One score."""

    score: float | None
    """``null`` where nothing that it is made of was scored."""

    n: int
    """Groups behind it."""

    ci95: Interval95 | None


class LengthBucket(Document):
    """Groups whose chosen candidate is longer, or shorter, by about as much."""

    name: str
    """``shorter_by_2x``, ``shorter``, ``as_long``, ``longer``, ``longer_by_2x``."""

    n: int
    score: float | None


class CalibrationBin(Document):
    """Groups whose margins stand for about the same probability."""

    low: float
    high: float
    n: int
    mean_probability: float | None
    accuracy: float | None


class Calibration(Document):
    """How well Bradley-Terry probabilities, sigmoid(margin), predict who wins."""

    expected_error: float
    """Mean distance of probability and accuracy, over bins weighted by their groups."""

    log_loss: float
    """Nats a group; ln 2 = 0.693 for a model that knows nothing and says so."""

    brier: float
    temperature: float | None
    """The divisor of margins that minimises the log loss; ``null`` where no finite one does."""

    bins: tuple[CalibrationBin, ...]


class Sensitivity(Document):
    """The same groups asked again in another company."""

    n: int
    largest_change: float | None
    """Of a reward."""

    changed_order: int
    """Groups whose candidates came out in another order."""


class Controls(Document):
    """What a reward model's score has to be seen beside. ``null`` where it was not asked for."""

    longer_wins: Score | None = None
    """The score of a rule that prefers the longer candidate, equal lengths counted half."""

    shuffled_question: Score | None = None
    """The model's own score where each candidate answers another group's question."""

    empty_question: Score | None = None
    """The model's own score where the question is empty."""

    swapped_order: Sensitivity | None = None
    """Candidates in the opposite order: for rewards that see a group's candidates together."""

    batch_composition: Sensitivity | None = None
    """Each group scored alone, in a request of its own."""

    by_length: tuple[LengthBucket, ...] | None = None
    """Scores by whether, and how far, the chosen candidate is the longer one."""

    calibration: Calibration | None = None


class Counts(Document):
    """What became of the data's groups."""

    groups: int
    """That were read."""

    scored: int
    failed: int
    """Without a reward for each candidate: in no score."""

    ties: int = 0
    """Of those scored, the ones whose candidates all rank equal: in no score."""

    bad_records: int = 0
    """That could not be read and were skipped, as asked."""

    errors: dict[str, int] = Field(default_factory=dict)
    """Candidates without a reward, by code of the error."""


class Results(Document):
    """One evaluation."""

    benchmark: str
    model: str
    overall: float | None
    overall_ci95: Interval95 | None
    sections: dict[str, Score]
    subsets: dict[str, Score]
    alternatives: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """The same rewards under other published rules: name of the rule, name of the score."""

    controls: Controls
    counts: Counts
    fingerprint: str | None
    """Of the reward model, where the endpoint tells."""

    settings: dict[str, Any]
    """What decided the numbers: source, split, digests, rules, endpoint, seed, versions."""

    partial: bool
    """Whether these are not all the groups that the benchmark has."""

    partial_reasons: tuple[str, ...] = ()
    """Why, one line each."""


def kind_of(error: str) -> str:
    """What many errors share: a code, or the path and status of a failed request."""
    parts = error.split(": ")
    return ": ".join(parts[:2] if error.startswith("/") else parts[:1])


def failed_questions(number: int, first: str) -> str:
    """That questions are in no score, with the error of the first of them."""
    verb = "is" if number == 1 else "are"
    shown = first if len(first) <= LONGEST_ERROR else f"{first[:LONGEST_ERROR]}…"
    questions = count(number, "question").replace(SPACE, " ")
    return f"{questions} failed and {verb} in no score; the first: {shown}"


def read_results(path: Path) -> Results:
    """The results of a reward model in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    return load_results(Results, path)


def load_results(kind: type[R], path: Path) -> R:
    """The results of a kind in a file, or in a folder's ``results.json``.

    Raises:
        ScoresError: naming the file and the field that does not fit.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ScoresError(
            f"{file}: no such file; give the output folder of an evaluation"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "content"
        raise ScoresError(f"{file}: {field}: {problem['msg']}; evaluate again") from None


def write_results(path: Path, results: BaseModel) -> None:
    """Writes the results, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    content = json.dumps(results.model_dump(mode="json"), indent=2, ensure_ascii=False)
    partial.write_text(content + "\n", encoding="utf-8")
    partial.replace(path)
