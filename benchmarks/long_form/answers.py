"""Who gives the answers that are judged: a policy server, or a file.

    [{"Question": "Can I take ibuprofen with …?", "result": "Yes, …"}, …]

is the layout in which K-QA's results are published (Itaymanes/K-QA), as a list or one record a
line. Answers belong to questions by the question's text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.qa.asking import flaw_of
from corpora.errors import CorpusError
from corpora.questions.k_qa import LongFormQuestion
from corpora.streams import OnBad, stream_records
from policy.client import AsyncPolicyClient, FinishReason, SamplingParameters
from policy.errors import PolicyRequestFailed


@dataclass(frozen=True, slots=True)
class Answer:
    """What is judged."""

    text: str
    is_cut: bool = False
    """Whether it ran into the limit; not known of a file."""


class Answerer(Protocol):
    """Gives the answer that is judged."""

    async def __call__(self, question: LongFormQuestion) -> Answer:
        """The answer.

        Raises:
            LookupError: if there is none.
            PolicyRequestFailed: if the policy does not answer.
            PolicyServerUnreachable: if its server is gone.
        """
        ...


class PolicyAnswers:
    """The greedy answers of one policy version.

    Args:
        policy: the server.
        version: the version.
        max_tokens: of the longest answer.
    """

    def __init__(self, policy: AsyncPolicyClient, version: str, *, max_tokens: int) -> None:
        self._policy = policy
        self._version = version
        self._parameters = SamplingParameters(
            candidates=1, temperature=0.0, top_p=1.0, max_tokens=max_tokens, seed=0
        )

    async def __call__(self, question: LongFormQuestion) -> Answer:
        """As :meth:`Answerer.__call__`."""
        group = await self._policy.sample(
            question.conversation, self._parameters, version=self._version
        )
        if flaw := flaw_of(group, wanted=1):
            raise PolicyRequestFailed(flaw)
        [candidate] = group.candidates
        return Answer(candidate.text, is_cut=candidate.finish_reason is FinishReason.LENGTH)


class FileAnswers:
    """Answers that were written before.

    Args:
        answers: by the text of the question.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = answers

    async def __call__(self, question: LongFormQuestion) -> Answer:
        """As :meth:`Answerer.__call__`."""
        return Answer(self._answers[_key(question.question)])


def read_answers(path: Path, *, on_bad: OnBad) -> dict[str, str]:
    """The answers of a file, by the text of the question, spaces made alike.

    Raises:
        CorpusError: naming the file that cannot be read, or what ``on_bad`` raises of a record.
    """
    found: dict[str, str] = {}
    for record in stream_records(path, on_bad=on_bad):
        try:
            question, answer = _key(record.text("Question")), record.text("result")
            if found.get(question, answer) != answer:
                raise CorpusError(
                    f"{record.where}: Question: answered before, and otherwise; keep one answer"
                )
            found[question] = answer
        except CorpusError as error:
            on_bad(error)
    return found


def digest_of(answers: Mapping[str, str]) -> str:
    """16 hex digits over questions and answers."""
    digest = hashlib.sha256()
    for question, answer in sorted(answers.items()):
        digest.update(f"{len(question)}:{question}{len(answer)}:{answer}".encode())
    return digest.hexdigest()[:16]


def _key(question: str) -> str:
    return " ".join(question.split())
