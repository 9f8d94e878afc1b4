"""From the answers in a folder to results. Asks nobody, so it can be done again at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.boards import Board, Tree, interval, mean, size
from benchmarks.qa.answered import Answered, Mode, journal_path, read_answered
from benchmarks.qa.boards import board
from benchmarks.qa.options import QaConfig
from benchmarks.qa.results import ModeResults, QaResults
from benchmarks.qa.suites import Suite
from benchmarks.results import Counts, Score, failed_questions, kind_of

BENCHMARK = "medical-qa"


def summarise(
    config: QaConfig, suites: Sequence[Suite], *, failure: str | None, versions: dict[str, Any]
) -> QaResults:
    """The results of all answers that are there.

    Args:
        config: what was asked for.
        suites: what it was asked about.
        failure: what ended the asking before it was done.
        versions: of the software that computed.
    """
    answered = {mode: latest(config.folder, suites, mode) for mode in config.modes}
    boards = {mode: board(lines) for mode, lines in answered.items()}
    modes = {
        mode: _mode(lines, boards[mode], suites, seed=config.seed)
        for mode, lines in answered.items()
    }
    first, of_first = modes[config.modes[0]], boards[config.modes[0]]
    reasons = tuple(_reasons(suites, modes, answered, failure))
    return QaResults(
        benchmark=BENCHMARK,
        model=config.version,
        mode=config.modes[0],
        overall=first.overall,
        overall_ci95=first.overall_ci95,
        sections=first.sections,
        subsets=first.subsets,
        modes=modes,
        missing=of_first.missing if of_first else (),
        settings=_settings(config, suites) | {"versions": versions},
        partial=bool(reasons),
        partial_reasons=reasons,
    )


def latest(folder: Path, suites: Sequence[Suite], mode: Mode) -> list[Answered]:
    """The last answer to each question of a mode, without its texts, which may be long."""
    found: dict[tuple[str, int], Answered] = {}
    for suite in suites:
        for line in read_answered(journal_path(folder, suite.name)):
            if line.mode == mode and line.number < suite.size:
                found[suite.name, line.number] = _without_texts(line)
    return list(found.values())


def _without_texts(line: Answered) -> Answered:
    samples = tuple(sample.model_copy(update={"text": ""}) for sample in line.samples)
    return line.model_copy(update={"samples": samples})


def _mode(
    lines: Sequence[Answered], found: Board | None, suites: Sequence[Suite], *, seed: int
) -> ModeResults:
    scored = [line for line in lines if line.error is None]
    samples = [sample for line in scored for sample in line.samples]
    errors = Counter(kind_of(line.error) for line in lines if line.error is not None)
    return ModeResults(
        overall=mean(found.overall) if found else None,
        overall_ci95=interval(found.overall, seed=seed) if found else None,
        sections=_scores(found.sections.items(), seed) if found else {},
        subsets=_scores(found.subsets.items(), seed) if found else {},
        counts=Counts(
            groups=sum(suite.size for suite in suites),
            scored=len(scored),
            failed=len(lines) - len(scored),
            bad_records=sum(suite.bad_records for suite in suites),
            errors=dict(errors),
        ),
        parse_rate=_share(sample.letter is not None for sample in samples),
        undecided=sum(line.choice is None for line in scored),
        mean_tokens=_share(sample.tokens for sample in samples),
        cut_rate=_share(sample.finish_reason == "length" for sample in samples),
    )


def _scores(trees: Iterable[tuple[str, Tree]], seed: int) -> dict[str, Score]:
    return {
        name: Score(score=mean(tree), n=size(tree), ci95=interval(tree, seed=seed))
        for name, tree in trees
    }


def _share(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _reasons(
    suites: Sequence[Suite],
    modes: Mapping[Mode, ModeResults],
    answered: Mapping[Mode, Sequence[Answered]],
    failure: str | None,
) -> Iterable[str]:
    if failure is not None:
        yield failure
    for suite in suites:
        if suite.size < suite.total:
            yield f"{suite.name}: the first {suite.size} of {suite.total} questions (--limit)"
        if suite.bad_records:
            yield f"{suite.name}: bad records skipped: {suite.bad_records}"
    for mode, results in modes.items():
        counts = results.counts
        if counts.failed:
            first = next(line.error for line in answered[mode] if line.error is not None)
            yield f"{mode}: {failed_questions(counts.failed, first)}"
        if missing := counts.groups - counts.scored - counts.failed:
            yield f"{mode}: questions not asked: {missing}"


def _settings(config: QaConfig, suites: Sequence[Suite]) -> dict[str, Any]:
    asked = config.model_dump(mode="json", exclude={"suites", "output", "restart"})
    return asked | {
        "suites": {
            suite.name: {
                "source": suite.source,
                "format": suite.format.name,
                "split": suite.split or suite.format.split,
                "questions": suite.total,
                "digest": suite.digest,
            }
            for suite in suites
        }
    }
