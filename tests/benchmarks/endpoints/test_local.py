"""A model in this process: the server's rewards, one thread, bounded slices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.endpoints.base import Rewards
from benchmarks.endpoints.local import LocalEndpoint, slices
from benchmarks.endpoints.native import NativeEndpoint
from corpora.conversation import Conversation
from reward_server.client import ClientOptions
from reward_server.errors import DeviceOutOfMemory, ServerStartError
from reward_server.local import LocalScorer
from reward_server.protocol import GroupResult, OnOverflow, ScoreGroup
from reward_server.specs import TransformerSpec

pytestmark = pytest.mark.anyio

ANSWERS = ["Rest.", "", "Saline rinses, steam and rest.", "See a doctor. " * 4]
GROUPS = [
    ScoreGroup.of(f"q{n}", Conversation.ask("Nose? " * (1 + n % 5)), ANSWERS[: 1 + n % 4])
    for n in range(23)
]
LONG = ScoreGroup.of("long", Conversation.ask("Nose? " * 200), ["Rest.", "No."])


def local(folder: Path, *, on_overflow: OnOverflow = "error", **settings: Any) -> LocalEndpoint:
    spec = TransformerSpec(model=str(folder), **{"dtype": "float32", **settings})
    return LocalEndpoint(folder, spec, on_overflow=on_overflow)


async def scored(endpoint: LocalEndpoint | NativeEndpoint, *groups: ScoreGroup) -> list[Rewards]:
    async with aclosing(endpoint.score(groups)) as stream:
        found = [rewards async for rewards in stream]
    await endpoint.aclose()
    return found


@pytest.mark.parametrize("max_batch_tokens", [1, 40, None])
async def test_rewards_are_those_of_the_server(
    server: str, model_folder: Path, max_batch_tokens: int | None
) -> None:
    here = await scored(local(model_folder, max_batch_tokens=max_batch_tokens), *GROUPS)
    there = await scored(NativeEndpoint(server, ClientOptions()), *GROUPS)
    assert len(here) == len(there) == len(GROUPS)
    for ours, theirs in zip(here, there, strict=True):
        assert ours.rewards == pytest.approx(theirs.rewards, abs=1e-4)
        assert (ours.errors, ours.tokens) == (theirs.errors, theirs.tokens)


async def test_the_description_is_that_of_the_server(server: str, model_folder: Path) -> None:
    endpoint, native = local(model_folder), NativeEndpoint(server, ClientOptions())
    here, there = await endpoint.describe(), await native.describe()
    assert here.model == model_folder.name
    assert (here.fingerprint, here.kind) == (there.fingerprint, "sequence_classification")
    assert not here.sees_rivals
    assert here.software == there.software
    await endpoint.aclose()
    await native.aclose()


async def test_what_cannot_be_scored_is_an_error_beside_rewards(sick_folder: Path) -> None:
    sick = ScoreGroup.of("sick", Conversation.ask("Why?"), ["Rest.", "Q"])
    found = await scored(local(sick_folder), GROUPS[0], LONG, sick, GROUPS[1])
    assert found[1].rewards == (None, None)
    assert all(
        error is not None and "candidate_too_long: group 'long'" in error
        for error in found[1].errors
    )
    assert found[2].rewards[0] is not None
    assert found[2].rewards[1] is None
    assert found[2].errors[1] is not None
    assert found[2].errors[1].startswith("non_finite_reward: ")
    assert None not in (*found[0].rewards, *found[3].rewards)


async def test_a_long_conversation_may_lose_its_beginning(model_folder: Path) -> None:
    (found,) = await scored(local(model_folder, on_overflow="truncate"), LONG)
    assert found.errors == (None, None)


async def test_a_folder_that_holds_no_model_is_a_named_error(tmp_path: Path) -> None:
    endpoint = local(tmp_path)
    with pytest.raises(ServerStartError, match="model: "):
        await endpoint.describe()
    await endpoint.aclose()


class Watched(LocalScorer):
    """Notes who loads and computes; waits for a gate; runs out of memory above some groups."""

    def __init__(self, folder: Path, spec: TransformerSpec) -> None:
        self.threads = {threading.get_ident()}
        self.gate = threading.Event()
        self.gate.set()
        self.most = 10**6
        self.sizes: list[int] = []
        super().__init__(folder, spec)
        Watched.last = self

    def score(
        self, groups: Sequence[ScoreGroup], *, on_overflow: OnOverflow = "error"
    ) -> list[GroupResult]:
        self.threads.add(threading.get_ident())
        assert self.gate.wait(60)
        self.sizes.append(len(groups))
        if len(groups) > self.most or any(group.id == "huge" for group in groups):
            raise DeviceOutOfMemory(f"no room for {len(groups)} groups")
        return super().score(groups, on_overflow=on_overflow)

    last: Watched


@pytest.fixture
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reward_server.local.LocalScorer", Watched)


@pytest.mark.usefixtures("_watched")
async def test_one_thread_loads_and_computes_and_the_event_loop_lives(model_folder: Path) -> None:
    endpoint = local(model_folder)
    await endpoint.describe()
    Watched.last.gate.clear()
    task = asyncio.create_task(scored(endpoint, *GROUPS))
    for _ in range(100):
        await asyncio.sleep(0)  # would not come back if the loop computed
    assert not task.done()
    Watched.last.gate.set()
    assert len(await task) == len(GROUPS)
    assert len(Watched.last.threads) == 1
    assert threading.get_ident() not in Watched.last.threads


@pytest.mark.usefixtures("_watched")
async def test_two_slices_are_read_and_no_more(model_folder: Path) -> None:
    read = 0

    def groups() -> Iterator[ScoreGroup]:
        nonlocal read
        for number in range(10_000):
            read += 1
            yield GROUPS[number % len(GROUPS)]

    endpoint = local(model_folder, max_batch_tokens=100)
    async with aclosing(endpoint.score(groups())) as stream:
        await anext(stream)
    await endpoint.aclose()
    assert len(Watched.last.sizes) <= 2
    assert read <= 2 * max(Watched.last.sizes) + 20  # slices differ by a few groups


@pytest.mark.usefixtures("_watched")
async def test_a_slice_that_needs_too_much_memory_is_halved(model_folder: Path) -> None:
    endpoint = local(model_folder)
    await endpoint.describe()
    Watched.last.most = 6
    huge = GROUPS[2].model_copy(update={"id": "huge"})
    found = await scored(endpoint, *GROUPS[:10], huge)
    assert found[-1].errors == ("out_of_memory: no room for 1 groups",) * 3
    assert all(None not in rewards.rewards for rewards in found[:-1])


@given(st.lists(st.sampled_from([*GROUPS, LONG]), max_size=30), st.integers(1, 2_000))
def test_slices_lose_nothing_and_are_as_large_as_they_should(
    groups: list[ScoreGroup], characters: int
) -> None:
    pieces = list(slices(groups, characters))
    assert [group for piece in pieces for group in piece] == groups

    def size(piece: Sequence[ScoreGroup]) -> int:
        return sum(
            len(group.messages[0].content) + len(candidate)
            for group in piece
            for candidate in group.candidates
        )

    assert all(size(piece) >= characters for piece in pieces[:-1])
    assert all(size(piece[:-1]) < characters for piece in pieces)
