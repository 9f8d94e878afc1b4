"""All questions of all suites in all modes: a bounded number under way, each kept when answered.

What a killed run had answered is not asked again; questions that failed are. A server that goes
away ends the asking, and what was answered by then is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.errors import BenchmarkError
from benchmarks.qa.answered import Answered, Mode, journal_path, read_answered
from benchmarks.qa.asking import Asker
from benchmarks.qa.options import QaConfig
from benchmarks.qa.suites import Suite
from benchmarks.window import in_order
from corpora.questions.choice import ChoiceQuestion
from foundation.journal import Journal, Pin
from policy.client import AsyncPolicyClient
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable


class OnProgress(Protocol):
    """Is told how far a suite is in a mode."""

    def __call__(self, task: str, done: int, total: int, /) -> None: ...


async def check_server(
    policy: AsyncPolicyClient,
    version: str,
    *,
    flag: str = "--server",
    max_tokens: int | None = None,
) -> None:
    """Meets the server, which was given as ``flag``, before anything is asked.

    Args:
        policy: the server.
        version: who is to answer.
        flag: how the server was given.
        max_tokens: longest answer that will be asked for, if any will.

    Raises:
        BenchmarkError: if nobody answers, the version is not served, or no question could be asked.
        PolicyRequestFailed: if it answers as no policy server does.
    """
    if not await policy.ready():
        raise BenchmarkError(
            f"{flag}: {policy.base_url}: nobody answers; start one with `medpref serve policy`,"
            " or correct the URL"
        )
    served = await policy.models()
    if version not in served.versions:
        known = ", ".join(served.versions) or "none"
        raise BenchmarkError(f"--version: {version} is not served; there are: {known}")
    context = served.context_tokens
    if max_tokens is not None and context is not None and max_tokens >= context:
        raise BenchmarkError(
            f"--max-tokens: {max_tokens} leaves no room for a question in the {context} tokens of"
            f" {version}; give less"
        )


async def ask_all(
    policy: AsyncPolicyClient,
    config: QaConfig,
    suites: list[Suite],
    *,
    on_progress: OnProgress,
) -> str | None:
    """Asks what is not answered yet; returns what ended it early, if anything did.

    Raises:
        JournalError: if answers in the folder are of another job.
        CorpusError: if the questions cannot be read again.
    """
    try:
        origin = (await policy.models()).origin(config.version)
        with open_journals(config, suites, origin=origin) as journals:
            for suite, journal in zip(suites, journals, strict=True):
                for mode in config.modes:
                    await _ask(Asker(policy, config, mode), suite, mode, journal, on_progress)
                journal.sync()
    except (PolicyServerUnreachable, PolicyRequestFailed) as failure:
        return str(failure)
    return None


@contextmanager
def open_journals(
    config: QaConfig, suites: Sequence[Suite], *, origin: str
) -> Iterator[list[Journal]]:
    """The journals of all suites, held to the job before it asks the first of them.

    An asking that ends early would leave those of another job to be scored with its own.

    Args:
        config: what is asked for.
        suites: the questions.
        origin: what the version that answers was loaded from.

    Raises:
        JournalError: if answers in the folder are of another job.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Journal(
                    journal_path(config.folder, suite.name),
                    pins(config, suite, origin=origin),
                    restart=config.restart,
                )
            )
            for suite in suites
        ]


def pins(config: QaConfig, suite: Suite, *, origin: str) -> Mapping[str, Pin]:
    """What decides the answers of a suite. Modes are not among them: one may be added."""
    return {
        "suite": suite.name,
        "questions": suite.digest,
        "version": config.version,
        "origin": origin,
        "form": config.form,
        "max_tokens": config.max_tokens,
        "samples": config.samples,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "scored_by": config.scored_by,
        "normalise": config.normalise,
        "seed": config.seed,
    }


async def _ask(
    asker: Asker, suite: Suite, mode: Mode, journal: Journal, on_progress: OnProgress
) -> None:
    done = _answered(journal.path, mode)
    task = f"{suite.name}, {mode}"
    count = sum(number < suite.size for number in done)
    on_progress(task, count, suite.size)

    async def answer(asked: tuple[int, ChoiceQuestion]) -> Answered:
        answered = await asker.ask(suite, *asked)
        journal.append(answered.model_dump_json())  # now, not when its turn comes
        return answered

    open_questions = (asked for asked in suite.stream() if asked[0] not in done)
    async with aclosing(in_order(open_questions, answer, width=asker.width)) as answers:
        async for _ in answers:
            count += 1
            on_progress(task, count, suite.size)


def _answered(path: Path, mode: Mode) -> set[int]:
    """The questions that have an answer; one that failed is asked again."""
    return set(_numbers(path, mode))


def _numbers(path: Path, mode: Mode) -> Iterator[int]:
    for line in read_answered(path):
        if line.mode == mode and line.error is None:
            yield line.number
