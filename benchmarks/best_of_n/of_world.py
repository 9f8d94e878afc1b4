"""Samples of a world's held-out questions: a sample is worth what the world's gold says.

Answers are free text, so nobody votes. The gold is taken when samples are read, and is not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.best_of_n.options import BestOfNConfig
from benchmarks.best_of_n.samples import About, Drawn, OnProgress, settled
from benchmarks.boards import Board
from benchmarks.errors import BenchmarkError, ScoresError
from benchmarks.qa.answered import Sample
from benchmarks.qa.asking import flaw_of, incomplete
from benchmarks.window import in_order
from corpora.world import Question, World
from corpora.worlds import open_world
from foundation.journal import Journal, Pin, read_journal
from policy.client import AsyncPolicyClient, SamplingParameters, is_transient
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable


class WorldAnswer(BaseModel):
    """One line of the journal: a question's samples, or an error in their place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    """Place among the held-out questions, counted from 0."""

    id: str
    samples: tuple[Sample, ...] = ()
    error: str | None = None


class WorldSamples:
    """The held-out questions of a world.

    Args:
        config: names the world, and how the policy is asked.
        folder: where the answers are kept.

    Raises:
        CorpusError: if the world cannot be read, or has fewer questions.
        BenchmarkError: if it knows no truth.
    """

    def __init__(self, config: BestOfNConfig, folder: Path) -> None:
        assert config.world is not None, "asked for by the flags"
        self._config = config
        self._world: World = open_world(config.world, path=config.world_path, seed=config.seed)
        self._questions = self._world.heldout_questions(config.questions)
        self._path = folder / f"answers-{config.world}.jsonl"
        if all(self._world.gold(question, "") is None for question in self._questions):
            raise BenchmarkError(
                f"--world: {config.world} has no gold, so no answer is known to be better than"
                " another; give clinic or medical-meadow, or --suite"
            )

    @cached_property
    def about(self) -> About:
        """As :attr:`Source.about`."""
        return About(
            measure="gold",
            size=len(self._questions),
            has_votes=False,
            settings={
                "world": self._world.name,
                "world_path": str(self._config.world_path) if self._config.world_path else None,
                "digest": self._world.digest,
                "questions": len(self._questions),
            },
        )

    async def draw(self, policy: AsyncPolicyClient, on_progress: OnProgress) -> str | None:
        """As :meth:`Source.draw`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pins = self._pins(origin=(await policy.models()).origin(self._config.version))
            with Journal(self._path, pins, restart=self._config.forgets_samples) as journal:
                await self._answer_all(policy, journal, on_progress)
                journal.sync()
        except (PolicyServerUnreachable, PolicyRequestFailed) as failure:
            return str(failure)
        return None

    def drawn(self) -> Iterator[Drawn]:
        """As :meth:`Source.drawn`."""
        for line in settled(self._lines()):
            question = self._questions[line.number]
            values = tuple(self._world.gold(question, sample.text) for sample in line.samples)
            known = tuple(value for value in values if value is not None)
            error = line.error or incomplete(len(line.samples), self._config.samples)
            if error is None and len(known) < len(values):
                error = "no_gold: the world does not know the truth"
            if error is not None:
                yield Drawn(self._world.name, question.id, question.conversation, error=error)
                continue
            yield Drawn(
                section=self._world.name,
                id=question.id,
                conversation=question.conversation,
                texts=tuple(sample.text for sample in line.samples),
                values=known,
                votes=(None,) * len(known),
            )

    def greedy(self) -> Board | None:
        """None: the answers are all drawn at a temperature."""
        return None

    def _pins(self, *, origin: str) -> Mapping[str, Pin]:
        config = self._config
        return {
            "world": self._world.name,
            "digest": self._world.digest,
            "version": config.version,
            "origin": origin,
            "max_tokens": config.max_tokens,
            "samples": config.samples,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "seed": config.seed,
        }

    async def _answer_all(
        self, policy: AsyncPolicyClient, journal: Journal, on_progress: OnProgress
    ) -> None:
        answered = {line.number for line in self._lines() if line.error is None}
        task, total, count = f"{self._world.name}, samples", len(self._questions), len(answered)
        on_progress(task, count, total)

        async def answer(numbered: tuple[int, Question]) -> None:
            line = await self._answer(policy, *numbered)
            journal.append(line.model_dump_json())  # now, not when its turn comes

        left = (each for each in enumerate(self._questions) if each[0] not in answered)
        width = self._config.policy_concurrency
        async with aclosing(in_order(left, answer, width=width)) as answers:
            async for _ in answers:
                count += 1
                on_progress(task, count, total)

    async def _answer(
        self, policy: AsyncPolicyClient, number: int, question: Question
    ) -> WorldAnswer:
        parameters = _parameters(self._config, question)
        try:
            group = await policy.sample(
                question.conversation, parameters, version=self._config.version
            )
        except PolicyRequestFailed as failure:
            if is_transient(failure):
                raise
            return WorldAnswer(number=number, id=question.id, error=str(failure))
        if flaw := flaw_of(group, wanted=parameters.candidates):
            return WorldAnswer(number=number, id=question.id, error=flaw)
        samples = tuple(
            Sample(
                text=each.text,
                letter=None,
                tokens=len(each.token_ids),
                finish_reason=str(each.finish_reason),
            )
            for each in group.candidates
        )
        return WorldAnswer(number=number, id=question.id, samples=samples)

    def _lines(self) -> Iterator[WorldAnswer]:
        if not self._path.is_file():
            return
        for place, fields in enumerate(read_journal(self._path), start=1):
            try:
                line = WorldAnswer.model_validate(fields)
            except ValidationError as error:
                raise ScoresError(
                    f"{self._path}:{place}: {_problem(error)}; begin anew with --restart"
                ) from None
            if line.number < len(self._questions):
                yield line


def _parameters(config: BestOfNConfig, question: Question) -> SamplingParameters:
    """Each question has its own seed, the same in every process and beside any other questions."""
    digest = hashlib.sha256(f"{config.seed}:{question.id}".encode()).digest()
    return SamplingParameters(
        candidates=config.samples,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        seed=int.from_bytes(digest[:4], "big") >> 1,
    )


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
