"""Asks the held-out questions: both versions beside each other, each answer kept when it comes.

Draws are new ones, with the question's own seed: by the run's own draws the gate chose the final
policy, so they would flatter it. A question that the server refuses has an error in place of an
answer; a server that is gone ends the asking, and what was answered by then is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.before_after.heldout import (
    JOURNAL,
    Draw,
    Heldout,
    HeldoutAnswer,
    HeldoutMode,
    digest_of,
    read_heldout,
)
from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.runs import TrainedRun
from benchmarks.qa.asking import flaw_of
from benchmarks.qa.likelihood import is_likelihood
from benchmarks.qa.run import OnProgress
from benchmarks.window import in_order
from corpora.world import Question
from foundation.cache import content_key
from foundation.journal import Journal, Pin
from policy.client import AsyncPolicyClient, SamplingParameters, is_transient
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to one version in one mode."""

    mode: HeldoutMode
    version: str
    number: int
    question: Question


class HeldoutAsker:
    """Asks one question at a time.

    Args:
        policy: the server.
        sampling: how the run draws held-out candidates; ``seed`` is common to all questions.
    """

    def __init__(self, policy: AsyncPolicyClient, sampling: SamplingParameters) -> None:
        self._policy = policy
        self._sampling = sampling

    async def ask(self, asked: Asked) -> HeldoutAnswer:
        """What the version answers.

        Raises:
            PolicyServerUnreachable, PolicyRequestFailed: if the server is gone or fails at all.
        """
        answer = self._reference if asked.mode == "references" else self._in_words
        try:
            outcome = await answer(asked)
        except PolicyRequestFailed as failure:
            if is_transient(failure):
                raise
            outcome = {"error": str(failure)}
        return HeldoutAnswer(
            mode=asked.mode,
            version=asked.version,
            number=asked.number,
            id=asked.question.id,
            digest=digest_of(asked.question),
            **outcome,
        )

    async def _in_words(self, asked: Asked) -> Mapping[str, Any]:
        parameters = seeded(self._sampling, asked.question)
        if asked.mode == "greedy":
            parameters = replace(parameters, candidates=1, temperature=0.0, top_p=1.0)
        group = await self._policy.sample(
            asked.question.conversation, parameters, version=asked.version
        )
        if flaw := flaw_of(group, wanted=parameters.candidates):
            return {"error": flaw}
        return {
            "draws": tuple(
                Draw(
                    text=each.text,
                    tokens=len(each.token_ids),
                    finish_reason=str(each.finish_reason),
                )
                for each in group.candidates
            )
        }

    async def _reference(self, asked: Asked) -> Mapping[str, Any]:
        reference = asked.question.reference
        assert reference, "only questions with a known answer are asked in this mode"
        [logprobs] = await self._policy.continuation_logprobs(
            asked.question.conversation, [reference], version=asked.version
        )
        if not is_likelihood(logprobs):
            return {"error": "no_likelihood: the known answer has no finite log-probability"}
        return {"logprob_per_token": fmean(logprobs)}


async def ask_heldout(
    asker: HeldoutAsker,
    heldout: Heldout,
    journal: Journal,
    *,
    width: int,
    on_progress: OnProgress,
) -> str | None:
    """Asks what is not answered yet; returns what ended it early, if anything did."""

    async def answer(asked: Asked) -> HeldoutAnswer:
        answered = await asker.ask(asked)
        journal.append(answered.model_dump_json())  # now, not when its turn comes
        return answered

    try:
        for mode in heldout.modes:
            await _ask(mode, heldout, journal.path, answer, width, on_progress)
        journal.sync()
    except (PolicyServerUnreachable, PolicyRequestFailed) as failure:
        return str(failure)
    return None


def open_journal(
    folder: Path, config: BeforeAfterConfig, run: TrainedRun, heldout: Heldout, all_of: str
) -> Journal:
    """The journal of a job. Modes and the number of questions may change; nothing else may.

    Args:
        folder: of the job.
        config: what is asked for.
        run: whose policies answer.
        heldout: what is asked.
        all_of: digest of all held-out questions that the run has.

    Raises:
        JournalError: if answers in the folder are of another job.
    """
    pins: dict[str, Pin] = {
        "run": run.name,
        "policy": f"{run.version} {run.digest}",
        "world": heldout.world,
        "questions": all_of,
        "candidates": run.heldout_candidates,
        "temperature": run.temperature,
        "top_p": run.top_p,
        "max_tokens": run.max_tokens,
        "seed": config.seed,
    }
    return Journal(folder / JOURNAL, pins, restart=config.restart)


def digest_all(questions: Iterable[Question]) -> str:
    """16 hex digits over questions in order."""
    return content_key({"questions": [digest_of(question) for question in questions]})


def seeded(parameters: SamplingParameters, question: Question) -> SamplingParameters:
    """The parameters with the question's own seed, the same for every version."""
    text = f"before-after:{parameters.seed}:{digest_of(question)}"
    digest = hashlib.sha256(text.encode()).digest()
    return replace(parameters, seed=int.from_bytes(digest[:4], "big") >> 1)


async def _ask(
    mode: HeldoutMode,
    heldout: Heldout,
    journal: Path,
    answer: Callable[[Asked], Awaitable[HeldoutAnswer]],
    width: int,
    on_progress: OnProgress,
) -> None:
    wanted = [
        Asked(mode, version, number, question)
        for number, question in heldout.asked(mode)
        for version in heldout.versions
    ]
    done = {
        (line.version, line.number)
        for line in read_heldout(journal)
        if line.mode == mode and line.error is None
    }
    missing = [each for each in wanted if (each.version, each.number) not in done]
    count = len(wanted) - len(missing)
    task = f"{heldout.name}, {mode}"
    on_progress(task, count, len(wanted))
    async with aclosing(in_order(missing, answer, width=width)) as answers:
        async for _ in answers:
            count += 1
            on_progress(task, count, len(wanted))
