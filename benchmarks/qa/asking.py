"""One question to the policy, in each mode.

A question that the server refuses, such as one that is too long, has an error in place of an
answer. A server that is gone ends the asking instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from benchmarks.qa.answered import Answered, Mode, Sample
from benchmarks.qa.likelihood import continuations, is_likelihood, likeliest, option_score
from benchmarks.qa.options import QaConfig
from benchmarks.qa.prompts import prompt
from benchmarks.qa.suites import Suite
from benchmarks.qa.voting import vote
from corpora.answers.choices import extract_choice
from corpora.questions.choice import ChoiceQuestion
from policy.client import (
    AsyncPolicyClient,
    Candidate,
    FinishReason,
    SampledGroup,
    SamplingParameters,
    is_transient,
)
from policy.errors import PolicyRequestFailed


class Asker:
    """Asks one policy version in one mode.

    Args:
        policy: the server.
        config: how it is asked.
        mode: which of the ways.
    """

    def __init__(self, policy: AsyncPolicyClient, config: QaConfig, mode: Mode) -> None:
        self._policy = policy
        self._config = config
        self._mode = mode

    @property
    def width(self) -> int:
        """Questions under way together."""
        return self._config.concurrency

    async def ask(self, suite: Suite, number: int, question: ChoiceQuestion) -> Answered:
        """What the policy answers.

        Raises:
            PolicyServerUnreachable, PolicyRequestFailed: if the server is gone or fails at all.
        """
        answer = self._likelihood if self._mode == "likelihood" else self._in_words
        try:
            outcome = await answer(question)
        except PolicyRequestFailed as failure:
            if is_transient(failure):
                raise
            outcome = {"error": str(failure)}
        return Answered(
            mode=self._mode,
            number=number,
            id=question.id,
            digest=question.digest,
            section=suite.section(question),
            subset=question.subset,
            answer=question.answer,
            **outcome,
        )

    async def _in_words(self, question: ChoiceQuestion) -> Mapping[str, Any]:
        parameters = self._parameters(question)
        group = await self._policy.sample(
            prompt(question, form=self._config.form, wanted="reasoning"),
            parameters,
            version=self._config.version,
        )
        if flaw := flaw_of(group, wanted=parameters.candidates):
            return {"error": flaw}
        samples = tuple(read_sample(each, question) for each in group.candidates)
        return {"samples": samples, "choice": vote([sample.letter for sample in samples])}

    async def _likelihood(self, question: ChoiceQuestion) -> Mapping[str, Any]:
        config = self._config
        scored = continuations(question, config.scored_by)
        logprobs = await self._policy.continuation_logprobs(
            prompt(question, form=config.form, wanted=config.scored_by),
            list(scored.texts.values()),
            lead=scored.lead,
            version=config.version,
        )
        if not all(map(is_likelihood, logprobs)):
            return {"error": "no_likelihood: an option has no finite log-probability"}
        scores = {
            letter: option_score(each, text, normalise=config.normalise)
            for (letter, text), each in zip(scored.texts.items(), logprobs, strict=True)
        }
        return {"scores": scores, "choice": likeliest(scores)}

    def _parameters(self, question: ChoiceQuestion) -> SamplingParameters:
        config, is_greedy = self._config, self._mode == "greedy"
        return SamplingParameters(
            candidates=1 if is_greedy else config.samples,
            temperature=0.0 if is_greedy else config.temperature,
            top_p=1.0 if is_greedy else config.top_p,
            max_tokens=config.max_tokens,
            seed=seed_of(question, seed=config.seed),
        )


def flaw_of(group: SampledGroup, *, wanted: int) -> str | None:
    """Why a group is not the answer that was asked for, as ``code: detail``, if it is not."""
    if any(each.finish_reason is FinishReason.ABORT for each in group.candidates):
        return "aborted: the server stopped while it answered"
    return incomplete(len(group.candidates), wanted)


def incomplete(found: int, wanted: int) -> str | None:
    """The error of a question with fewer samples than were asked for."""
    return None if found == wanted else f"incomplete: {found} samples in place of {wanted}"


def read_sample(candidate: Candidate, question: ChoiceQuestion) -> Sample:
    """An answer with what it chooses."""
    is_cut = candidate.finish_reason is FinishReason.LENGTH
    return Sample(
        text=candidate.text,
        letter=extract_choice(candidate.text, question.options, is_cut=is_cut),
        tokens=len(candidate.token_ids),
        finish_reason=str(candidate.finish_reason),
    )


def seed_of(question: ChoiceQuestion, *, seed: int) -> int:
    """The question's own seed, the same in every process and beside any other questions."""
    digest = hashlib.sha256(f"{seed}:{question.digest}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
