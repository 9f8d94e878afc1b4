"""From the answers in a folder to results. Asks nobody, so it can be done again at any time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.before_after.changes import Item, Paired, average, change, pair
from benchmarks.before_after.heldout import (
    JOURNAL,
    Heldout,
    HeldoutAnswer,
    read_heldout,
)
from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.results import (
    ABILITIES,
    BeforeAfterResults,
    Change,
    Kind,
    Measure,
)
from benchmarks.before_after.runs import TrainedRun
from benchmarks.before_after.verdict import verdict
from benchmarks.boards import Leaf
from benchmarks.qa.answered import Answered, Mode, Sample
from benchmarks.qa.suites import Suite
from benchmarks.qa.summary import latest
from benchmarks.results import failed_questions
from corpora.world import Question, World
from policy.protocol import BASE


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that a job asks."""

    run: TrainedRun
    world: World
    heldout: Heldout
    medical: Sequence[Suite]
    general: Sequence[Suite]

    @property
    def versions(self) -> tuple[str, str]:
        """Before and after."""
        return BASE, self.run.version

    @property
    def suites(self) -> list[tuple[Kind, Suite]]:
        """All suites with what they stand for."""
        return [
            *(("medical", each) for each in self.medical),
            *(("general", s) for s in self.general),
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """A suite, or the held-out questions, in one mode."""

    kind: Kind
    name: str
    mode: str
    size: int
    """Questions that are asked."""

    paired: Paired

    @property
    def title(self) -> str:
        return f"{self.name}, {self.mode}"


@dataclass(slots=True)
class _Changes:
    """Changes of all parts, as they come."""

    seed: int
    suites: dict[str, Change] = field(default_factory=dict)
    manner: dict[str, dict[str, Change]] = field(default_factory=dict)
    sections: dict[tuple[Kind, str], dict[str, tuple[Leaf, Leaf]]] = field(default_factory=dict)

    def add(self, part: Part) -> None:
        for measure in part.paired.measures():
            if measure in ABILITIES:
                self._add_ability(part, measure)
            else:
                whole = part.paired.whole(measure)
                self.manner.setdefault(part.title, {})[measure] = self._change(
                    part, measure, *whole
                )

    def averages(self) -> dict[str, Change]:
        return {
            f"{kind}, {mode}": change(
                *average(parts), kind=kind, mode=mode, measure="accuracy", seed=self.seed
            )
            for (kind, mode), parts in self.sections.items()
            if len(parts) > 1
        }

    def _add_ability(self, part: Part, measure: Measure) -> None:
        for section, both in part.paired.sections(measure).items():
            name = section if section.startswith(part.name) else f"{part.name}/{section}"
            self.suites[f"{name}, {part.mode}"] = self._change(part, measure, *both)
            if measure == "accuracy":
                self.sections.setdefault((part.kind, part.mode), {})[name] = both

    def _change(self, part: Part, measure: Measure, before: Leaf, after: Leaf) -> Change:
        return change(
            before, after, kind=part.kind, mode=part.mode, measure=measure, seed=self.seed
        )


def summarise(
    config: BeforeAfterConfig,
    asked: Asked,
    folder: Path,
    *,
    failure: str | None,
    settings: Mapping[str, Any],
) -> BeforeAfterResults:
    """The results of all answers that are there.

    Args:
        config: what was asked for.
        asked: what that is.
        folder: of the job.
        failure: what ended the asking before it was done.
        settings: what else decided the numbers.
    """
    parts = [*_world_parts(asked, folder), *_suite_parts(config, asked, folder)]
    changes = _Changes(config.seed)
    for part in sorted(parts, key=lambda part: ("world", "medical", "general").index(part.kind)):
        changes.add(part)
    averages = changes.averages()
    reasons = tuple(_reasons(asked, parts, failure))
    return BeforeAfterResults(
        run=asked.run.name,
        before=asked.versions[0],
        after=asked.versions[1],
        suites=changes.suites,
        averages=averages,
        manner=changes.manner,
        verdict=tuple(verdict(changes.suites)),
        settings=dict(settings),
        partial=bool(reasons),
        partial_reasons=reasons,
    )


def _world_parts(asked: Asked, folder: Path) -> Iterator[Part]:
    """The held-out questions in each mode; how likely known answers are is general ability."""
    heldout = asked.heldout
    newest = {
        (line.mode, line.version, line.number): line for line in read_heldout(folder / JOURNAL)
    }
    for mode in heldout.modes:
        questions = dict(heldout.asked(mode))
        before, after = (
            [
                _heldout_item(newest[key], question, asked)
                for number, question in questions.items()
                if (key := (mode, version, number)) in newest
            ]
            for version in asked.versions
        )
        kind: Kind = "general" if mode == "references" else "world"
        yield Part(kind, heldout.name, mode, len(questions), pair(before, after))


def _heldout_item(line: HeldoutAnswer, question: Question, asked: Asked) -> Item:
    return Item(
        number=line.number,
        digest=line.digest,
        section=asked.heldout.name,
        values=_heldout_values(line, question, asked.world),
        error=line.error,
    )


def _heldout_values(line: HeldoutAnswer, question: Question, world: World) -> dict[Measure, float]:
    if line.logprob_per_token is not None:
        return {"logprob_per_token": line.logprob_per_token}
    if not line.draws:
        return {}
    values: dict[Measure, float] = {}
    grades = [world.gold(question, draw.text) for draw in line.draws]
    known = [grade for grade in grades if grade is not None]
    if known:
        values["gold"] = fmean(known)
    return values | _manner([(draw.tokens, draw.finish_reason) for draw in line.draws])


def _manner(answers: Sequence[tuple[int, str]]) -> dict[Measure, float]:
    """Of answers, each with its tokens and why it ended."""
    return {
        "length_tokens": fmean(tokens for tokens, _ in answers),
        "cut_rate": fmean(reason == "length" for _, reason in answers),
    }


def _suite_parts(config: BeforeAfterConfig, asked: Asked, folder: Path) -> Iterator[Part]:
    for kind, suite in asked.suites:
        for mode in config.modes:
            before, after = (
                _suite_items(folder / "suites" / suite.name / version, suite, mode)
                for version in asked.versions
            )
            yield Part(kind, suite.name, mode, suite.size, pair(before, after))


def _suite_items(folder: Path, suite: Suite, mode: Mode) -> Iterator[Item]:
    for line in latest(folder, [suite], mode):
        yield Item(
            number=line.number,
            digest=line.digest,
            section=line.section,
            values={} if line.error is not None else _suite_values(line),
            error=line.error,
        )


def _suite_values(line: Answered) -> dict[Measure, float]:
    values: dict[Measure, float] = {"accuracy": float(line.is_right)}
    return values | (_manner([_of(sample) for sample in line.samples]) if line.samples else {})


def _of(sample: Sample) -> tuple[int, str]:
    return sample.tokens, sample.finish_reason


def _reasons(asked: Asked, parts: Iterable[Part], failure: str | None) -> Iterator[str]:
    run = asked.run
    if run.status != "completed":
        yield (
            f"the run is {run.status}, not completed: {run.version} is the last policy that it"
            " promoted so far"
        )
    if failure is not None:
        yield failure
    yield from _left_out(asked)
    for part in parts:
        paired = part.paired
        if paired.first_error is not None:
            yield f"{part.title}: {failed_questions(paired.failed, paired.first_error)}"
        if missing := part.size - len(paired.pairs) - paired.failed:
            yield f"{part.title}: questions not asked of both: {missing}"


def _left_out(asked: Asked) -> Iterator[str]:
    """What was not to be asked."""
    heldout = asked.heldout
    sizes = [(heldout.name, len(heldout.questions), heldout.total)]
    sizes += [(suite.name, suite.size, suite.total) for _, suite in asked.suites]
    for name, size, total in sizes:
        if size < total:
            yield f"{name}: the first {size} of {total} questions (--questions)"
    for _, suite in asked.suites:
        if suite.bad_records:
            yield f"{suite.name}: bad records skipped: {suite.bad_records}"
