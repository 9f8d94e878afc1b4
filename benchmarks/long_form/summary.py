"""From verdicts to results. Asks nobody, so it can be done again at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.boards import interval, mean, size
from benchmarks.long_form.options import LongFormConfig
from benchmarks.long_form.questions import Survey
from benchmarks.long_form.results import LongFormResults
from benchmarks.long_form.run import JUDGED, read_judged
from benchmarks.long_form.scores import board
from benchmarks.results import Counts, Score, failed_questions
from foundation.journal import Pin
from foundation.versions import versions

BENCHMARK = "long-form"


def summarise(
    config: LongFormConfig, survey: Survey, pins: Mapping[str, Pin], *, failure: str | None
) -> LongFormResults:
    """The results of all verdicts that are there."""
    judged = read_judged(config.folder / JUDGED, size=survey.size)
    found = board(judged.answers)
    scores = {
        name: Score(score=mean(tree), n=size(tree), ci95=interval(tree, seed=config.seed))
        for name, tree in (found.sections.items() if found else ())
    }
    nothing = Score(score=None, n=0, ci95=None)
    scored = sum(answer.is_judged for answer in judged.answers)
    counts = Counts(
        groups=survey.size,
        scored=scored,
        failed=len(judged.answers) - scored,
        bad_records=survey.bad_records,
        errors=dict(judged.errors),
    )
    reasons = tuple(_reasons(survey, counts, failure))
    return LongFormResults(
        benchmark=BENCHMARK,
        model=config.author,
        judge=config.judge_model,
        completeness=scores.get("completeness", nothing),
        hallucination=scores.get("hallucination", nothing),
        hallucination_share=scores.get("hallucination_share", nothing),
        counts=counts,
        cut=judged.cut,
        settings=_settings(config, survey) | dict(pins),
        partial=bool(reasons),
        partial_reasons=reasons,
    )


def _reasons(survey: Survey, counts: Counts, failure: str | None) -> Iterator[str]:
    if failure is not None:
        yield failure
    if survey.size < survey.total:
        yield f"the first {survey.size} of {survey.total} questions (--limit)"
    if survey.bad_records:
        yield f"bad records skipped: {survey.bad_records}"
    if counts.failed:
        yield failed_questions(counts.failed, next(iter(counts.errors), "no verdict"))
    if left := counts.groups - counts.scored - counts.failed:
        yield f"questions not judged: {left}"


def _settings(config: LongFormConfig, survey: Survey) -> dict[str, Any]:
    without = {"output", "restart", "judge_model", "name"}
    if config.answers is not None:
        without |= {"version", "max_tokens"}
    return {
        **config.model_dump(mode="json", exclude_none=True, exclude=without),
        "judge_model": config.judge_model,
        "data": survey.source,
        "questions": survey.total,
        "digest": survey.digest,
        "versions": versions("medpref"),
    }
