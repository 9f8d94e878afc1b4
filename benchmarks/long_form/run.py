"""Answers and verdicts: every question is answered, and each of its statements judged.

A judged question is a line of the journal, so a killed job goes on where it was. A statement
without a verdict is kept as such: it makes the question failed, never wrong. Questions go their own
ways, a bounded number of them at once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from benchmarks.chat import ChatClient, ChatFailed
from benchmarks.long_form.scores import JudgedAnswer
from benchmarks.long_form.verdicts import Relation, question_for, read_verdict
from benchmarks.window import in_order
from corpora.questions.k_qa import LongFormQuestion
from foundation.journal import Journal, Pin, read_journal
from policy.errors import PolicyRequestFailed

UNREADABLE = "unreadable_verdict: it says neither true nor false"
NO_ANSWER = "no_answer: the answers have none to this question"


class Answerer(Protocol):
    """Gives the answer that is judged."""

    async def __call__(self, question: LongFormQuestion) -> str:
        """The answer.

        Raises:
            LookupError: if there is none.
            PolicyRequestFailed: if the policy refuses the question.
        """
        ...


@dataclass(frozen=True, slots=True)
class Judging:
    """Who answers and who judges."""

    answer: Answerer
    judge: ChatClient
    max_tokens: int
    """Of one verdict, with the thoughts before it."""

    window: int
    """Questions under way together."""


@dataclass(frozen=True, slots=True)
class JudgedLine:
    """One line of the journal."""

    judged: JudgedAnswer
    question: str
    answer: str | None
    errors: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The line without its end."""
        fields = {
            "number": self.judged.number,
            "id": self.judged.id,
            "question": self.question,
            "answer": self.answer,
            "entailed": self.judged.entailed,
            "contradicted": self.judged.contradicted,
            "errors": self.errors,
        }
        return json.dumps(fields, ensure_ascii=False)


async def judge_all(
    judging: Judging,
    questions: Iterable[LongFormQuestion],
    path: Path,
    pins: Mapping[str, Pin],
    *,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Judges what is not yet in the journal at ``path``.

    Raises:
        JournalError: if the journal is of another job.
        ChatFailed: if the judge cannot be reached; what is done is kept.
        PolicyServerUnreachable: if the policy cannot.
    """
    with Journal(path, pins) as journal:
        on_progress(journal.count)
        left = islice(enumerate(questions), journal.count, None)
        async for line in _judged(judging, left):
            journal.append(line.to_json())
            on_progress(journal.count)


def read_judged(path: Path) -> tuple[list[JudgedAnswer], Counter[str]]:
    """The verdicts of a journal, and the codes of its errors.

    Raises:
        JournalError: naming the line that is damaged.
    """
    answers, errors = [], Counter[str]()
    for fields in read_journal(path):
        answers.append(
            JudgedAnswer(
                number=fields["number"],
                id=fields["id"],
                entailed=tuple(fields["entailed"]),
                contradicted=tuple(fields["contradicted"]),
            )
        )
        errors.update(error.partition(":")[0] for error in fields["errors"])
    return answers, errors


def _judged(
    judging: Judging, questions: Iterable[tuple[int, LongFormQuestion]]
) -> AsyncIterator[JudgedLine]:
    return in_order(questions, lambda numbered: _judge(judging, *numbered), width=judging.window)


async def _judge(judging: Judging, number: int, question: LongFormQuestion) -> JudgedLine:
    statements = [*question.must_have, *question.nice_to_have]
    try:
        answer = await judging.answer(question)
    except (LookupError, PolicyRequestFailed) as error:
        text = NO_ANSWER if isinstance(error, LookupError) else f"policy_failed: {error}"
        nothing = JudgedAnswer(
            number, question.id, (None,) * len(question.must_have), (None,) * len(statements)
        )
        return JudgedLine(nothing, question.question, None, (text,))
    asked: list[tuple[Relation, str]] = [
        *(("entails", statement) for statement in question.must_have),
        *(("contradicts", statement) for statement in statements),
    ]
    verdicts = await asyncio.gather(
        *(_verdict(judging, question, answer, relation, text) for relation, text in asked)
    )
    decided = [verdict if isinstance(verdict, bool) else None for verdict in verdicts]
    cut = len(question.must_have)
    return JudgedLine(
        JudgedAnswer(number, question.id, tuple(decided[:cut]), tuple(decided[cut:])),
        question.question,
        answer,
        tuple(verdict for verdict in verdicts if isinstance(verdict, str)),
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
