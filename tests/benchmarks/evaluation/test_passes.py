"""A pass keeps every group it has scored and goes on from there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmarks.errors import EvaluationFailed
from benchmarks.evaluation.passes import run_pass, score, score_alone
from benchmarks.evaluation.views import ask
from benchmarks.stored_scores import read_scores
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from foundation.journal import JournalError
from tests.benchmarks.evaluation.fakes import FakeEndpoint, pairs

PINS = {"data": "d", "fingerprint": "f00d"}


async def test_a_pass_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    path, groups = tmp_path / "scores.jsonl", pairs(9)
    broken, told = FakeEndpoint(fails_after=4), list[int]()
    questions = ask(groups, "as_asked", total=9)
    with pytest.raises(EvaluationFailed, match="the server is gone"):
        await run_pass(partial(score, broken), questions, path, PINS, on_progress=told.append)
    assert told == [0, 1, 2, 3, 4]
    whole = FakeEndpoint()
    await run_pass(partial(score, whole), ask(groups, "as_asked", total=9), path, PINS)
    assert [group.id for group in whole.asked] == ["4", "5", "6", "7", "8"]
    lines = list(read_scores(path))
    assert [line.number for line in lines] == list(range(9))
    assert [line.digest for line in lines] == [group.digest for group in groups]
    assert lines[0].rewards == (1.13, 3.13)
    assert lines[0].characters == (1, 3)


async def test_a_pass_of_another_job_is_refused(tmp_path: Path) -> None:
    path, endpoint = tmp_path / "scores.jsonl", FakeEndpoint()
    await run_pass(partial(score, endpoint), ask(pairs(2), "as_asked", total=2), path, PINS)
    other = PINS | {"fingerprint": "beef"}
    said = "begun with fingerprint 'f00d', now it is 'beef'.*name another folder with --output$"
    with pytest.raises(JournalError, match=said):
        await run_pass(partial(score, endpoint), ask(pairs(2), "as_asked", total=2), path, other)


async def test_groups_that_cannot_be_asked_are_lines_with_errors(tmp_path: Path) -> None:
    bad = RankedGroup.pair("bad", Conversation.ask("What?"), "\ud800", "n")
    groups = [bad, *pairs(2), bad, bad]
    path = tmp_path / "scores.jsonl"
    await run_pass(partial(score, FakeEndpoint()), ask(groups, "as_asked", total=5), path, PINS)
    lines = list(read_scores(path))
    assert [line.number for line in lines] == [0, 1, 2, 3, 4]
    assert [line.is_scored for line in lines] == [False, True, True, False, False]


async def test_alone_means_one_group_at_a_time() -> None:
    endpoint = FakeEndpoint()
    scored = [line async for line in score_alone(endpoint, ask(pairs(3), "as_asked", total=3))]
    assert endpoint.calls == len(scored) == 3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
