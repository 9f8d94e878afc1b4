"""Answers and verdicts: every question is answered, and each of its statements judged.

A judged question is a line of the journal as soon as it is judged, so a killed job goes on where it
was. A statement without a verdict is kept as such: it makes the question failed, never wrong, and
the question is asked again next time. Questions go their own ways, a bounded number of them at
once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.chat import ChatClient, ChatFailed
from benchmarks.errors import ScoresError
from benchmarks.long_form.answers import Answer, Answerer
from benchmarks.long_form.scores import JudgedAnswer
from benchmarks.long_form.verdicts import Relation, question_for, read_verdict
from benchmarks.window import in_order
from corpora.questions.k_qa import LongFormQuestion
from foundation.journal import Journal, Pin, read_journal
from policy.client import is_transient
from policy.errors import PolicyRequestFailed

JUDGED = "judged.jsonl"

UNREADABLE = "unreadable_verdict: it says neither true nor false"
NO_ANSWER = "no_answer: the answers have none to this question"


@dataclass(frozen=True, slots=True)
class Judging:
    """Who answers and who judges."""

    answer: Answerer
    judge: ChatClient
    max_tokens: int
    """Of one verdict, with the thoughts before it."""

    window: int
    """Questions under way together."""


class JudgedLine(BaseModel):
    """One line of the journal: a question, its answer and the verdicts about its statements."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    number: int
    """Place of the question in the data, counted from 0."""

    id: str
    question: str
    answer: str | None
    """``null`` where there is none."""

    is_cut: bool = False
    """Whether the answer ran into the limit."""

    entailed: tuple[bool | None, ...]
    """Along the must-have statements."""

    contradicted: tuple[bool | None, ...]
    """Along the must-have statements and then those that are nice to have."""

    errors: tuple[str, ...] = ()
    """``code: detail`` of each verdict that is missing, or of the answer."""

    @property
    def judged(self) -> JudgedAnswer:
        """The verdicts alone."""
        return JudgedAnswer(self.number, self.id, self.entailed, self.contradicted)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a journal holds, each question once, in the order of the data."""

    answers: tuple[JudgedAnswer, ...]
    errors: Counter[str]
    """Verdicts and answers that are missing, by code."""

    cut: int
    """Answers that ran into the limit."""


async def judge_all(
    judging: Judging,
    questions: Iterable[LongFormQuestion],
    path: Path,
    pins: Mapping[str, Pin],
    *,
    restart: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Judges what is not judged yet in the journal at ``path``.

    Args:
        judging: who answers and who judges.
        questions: all of them, from the first.
        path: the journal.
        pins: what decides its lines.
        restart: whether the lines of an earlier run may go.
        on_progress: told how many questions are judged, at the start and after each.

    Raises:
        JournalError: if the journal is of another job.
        ChatFailed: if the judge cannot be reached; what is done is kept.
        PolicyServerUnreachable, PolicyRequestFailed: if the policy cannot.
    """
    with Journal(path, pins, restart=restart) as journal:
        done = {line.number for line in _lines(path) if line.judged.is_judged}
        on_progress(len(done))

        async def judge(numbered: tuple[int, LongFormQuestion]) -> int:
            line = await _judge(judging, *numbered)
            journal.append(line.model_dump_json())  # now, not when its turn comes
            return line.number

        left = (each for each in enumerate(questions) if each[0] not in done)
        async with aclosing(in_order(left, judge, width=judging.window)) as judged:
            async for number in judged:
                done.add(number)
                on_progress(len(done))
        journal.sync()


def read_judged(path: Path, *, size: int) -> Judged:
    """The last line of each question; none where nothing was judged.

    Args:
        path: the journal.
        size: the number of questions; later ones are left out.

    Raises:
        JournalError, ScoresError: naming the line that is damaged.
    """
    latest = {line.number: line for line in _lines(path) if line.number < size}
    lines = [latest[number] for number in sorted(latest)]
    return Judged(
        answers=tuple(line.judged for line in lines),
        errors=Counter(error.partition(":")[0] for line in lines for error in line.errors),
        cut=sum(line.is_cut for line in lines),
    )


def _lines(path: Path) -> Iterator[JudgedLine]:
    for place, fields in enumerate(read_journal(path) if path.is_file() else (), start=1):
        try:
            yield JudgedLine.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "content"
            raise ScoresError(
                f"{path}:{place}: {field}: {problem['msg']}; begin anew with --restart"
            ) from None


async def _judge(judging: Judging, number: int, question: LongFormQuestion) -> JudgedLine:
    try:
        answer = await judging.answer(question)
    except LookupError:
        return _unanswered(number, question, NO_ANSWER)
    except PolicyRequestFailed as error:
        if is_transient(error):
            raise
        return _unanswered(number, question, f"policy_failed: {error}")
    return await _judge_answer(judging, number, question, answer)


async def _judge_answer(
    judging: Judging, number: int, question: LongFormQuestion, answer: Answer
) -> JudgedLine:
    asked: list[tuple[Relation, str]] = [
        *(("entails", statement) for statement in question.must_have),
        *(("contradicts", statement) for statement in question.must_have + question.nice_to_have),
    ]

    async def verdict(of: tuple[Relation, str]) -> bool | str:
        return await _verdict(judging, question, answer.text, *of)

    async with aclosing(in_order(asked, verdict, width=len(asked))) as stream:
        verdicts = [each async for each in stream]
    decided = [each if isinstance(each, bool) else None for each in verdicts]
    cut = len(question.must_have)
    return JudgedLine(
        number=number,
        id=question.id,
        question=question.question,
        answer=answer.text,
        is_cut=answer.is_cut,
        entailed=tuple(decided[:cut]),
        contradicted=tuple(decided[cut:]),
        errors=tuple(each for each in verdicts if isinstance(each, str)),
    )


def _unanswered(number: int, question: LongFormQuestion, error: str) -> JudgedLine:
    return JudgedLine(
        number=number,
        id=question.id,
        question=question.question,
        answer=None,
        entailed=(None,) * len(question.must_have),
        contradicted=(None,) * len(question.must_have + question.nice_to_have),
        errors=(error,),
    )


async def _verdict(
    judging: Judging, question: LongFormQuestion, answer: str, relation: Relation, statement: str
) -> bool | str:
    """The verdict, or the error in its place."""
    asked = question_for(relation, question=question.question, answer=answer, statement=statement)
    try:
        text = await judging.judge.ask(asked, max_tokens=judging.max_tokens)
    except ChatFailed as error:
        if not error.is_refusal:
            raise
        return f"judge_failed: {error}"
    verdict = read_verdict(text)
    return UNREADABLE if verdict is None else verdict
