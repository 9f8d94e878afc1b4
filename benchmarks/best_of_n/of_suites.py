"""Samples of multiple-choice questions: a sample is worth 1 if it chooses the right option.

They are the self-consistency answers of the question suites, asked and kept as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from benchmarks.best_of_n.samples import About, Drawn, OnProgress, settled
from benchmarks.boards import Board
from benchmarks.qa.answered import Answered, Mode, journal_path, read_answered
from benchmarks.qa.asking import incomplete
from benchmarks.qa.boards import board
from benchmarks.qa.options import QaConfig
from benchmarks.qa.prompts import prompt
from benchmarks.qa.run import ask_all
from benchmarks.qa.suites import Suite, open_suite
from benchmarks.qa.summary import latest
from corpora.conversation import Conversation
from policy.client import AsyncPolicyClient

MODE: Mode = "self-consistency"


class SuiteSamples:
    """The suites of one evaluation of medical questions.

    Args:
        config: of that evaluation; its only mode is self-consistency.

    Raises:
        CorpusError: naming what of a suite cannot be read, and the fix.
        BenchmarkError: if a suite has no question.
    """

    def __init__(self, config: QaConfig) -> None:
        assert config.modes == (MODE,), "greedy answers are one each"
        self._config = config
        self._suites = [open_suite(given, config) for given in config.sources]

    @cached_property
    def about(self) -> About:
        """As :attr:`Source.about`."""
        return About(
            measure="accuracy",
            size=sum(suite.size for suite in self._suites),
            has_votes=True,
            settings={"form": self._config.form, "suites": dict(map(_pinned, self._suites))},
            bad_records=sum(suite.bad_records for suite in self._suites),
            reasons=tuple(reason for suite in self._suites for reason in _reasons(suite)),
        )

    async def draw(self, policy: AsyncPolicyClient, on_progress: OnProgress) -> str | None:
        """As :meth:`Source.draw`."""
        self._config.folder.mkdir(parents=True, exist_ok=True)
        return await ask_all(policy, self._config, self._suites, on_progress=on_progress)

    def drawn(self) -> Iterator[Drawn]:
        """As :meth:`Source.drawn`. Holds the questions of one suite, and the texts of one."""
        for suite in self._suites:
            questions = dict(suite.stream())
            lines = read_answered(journal_path(self._config.folder, suite.name))
            mine = (line for line in lines if line.mode == MODE and line.number in questions)
            for line in settled(mine):
                asked = prompt(questions[line.number], form=self._config.form, wanted="reasoning")
                yield self._read(line, f"{suite.name}/{line.number}", asked)

    def greedy(self) -> Board | None:
        """As :meth:`Source.greedy`."""
        return board(latest(self._config.folder, self._suites, "greedy"))

    def _read(self, line: Answered, name: str, asked: Conversation) -> Drawn:
        error = line.error or incomplete(len(line.samples), self._config.samples)
        if error is not None:
            return Drawn(line.section, name, asked, error=error)
        return Drawn(
            section=line.section,
            id=name,
            conversation=asked,
            texts=tuple(sample.text for sample in line.samples),
            values=tuple(float(sample.letter == line.answer) for sample in line.samples),
            votes=tuple(sample.letter for sample in line.samples),
        )


def _pinned(suite: Suite) -> tuple[str, dict[str, str | int | None]]:
    return suite.name, {
        "source": suite.source,
        "format": suite.format.name,
        "split": suite.split or suite.format.split,
        "questions": suite.total,
        "digest": suite.digest,
    }


def _reasons(suite: Suite) -> Iterator[str]:
    if suite.size < suite.total:
        yield f"{suite.name}: the first {suite.size} of {suite.total} questions (--limit)"
    if suite.bad_records:
        yield f"{suite.name}: bad records skipped: {suite.bad_records}"
