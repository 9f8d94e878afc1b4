from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from reward_server import pipeline as pipelines
from reward_server.batcher import WARM_UP, Batcher
from reward_server.cache import RewardCache
from reward_server.errors import DeviceOutOfMemory, Overloaded, QuotaExceeded, RenderingFailed
from reward_server.pipeline import CHARACTERS_A_TOKEN, Pipeline
from reward_server.protocol import ChatMessage, EngineName, ItemError, OnOverflow, ScoreGroup
from reward_server.rendering import Renderer
from reward_server.scorer import Call, RawInput
from reward_server.tokens import Labels, TokenInput

pytestmark = pytest.mark.anyio

MAX_TOKENS = 10
NOT_A_NUMBER = 99


class FakeEngine:
    """The number of an input is the sum of its ids."""

    name: EngineName = "padded"

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self.poison: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        return list(range(len(inputs))), [len(item.ids) for item in inputs]

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        if list(inputs) != [WARM_UP]:
            self.batches.append([item.ids for item in inputs])
            assert self.gate.wait(timeout=30)
        if any(item.ids[0] in self.poison for item in inputs):
            raise DeviceOutOfMemory("too large")
        return [
            (math.nan if item.ids[0] == NOT_A_NUMBER else float(sum(item.ids)),) for item in inputs
        ]


class FakeRenderer:
    """Renders nothing; knows the thread that made it."""

    template = "none"

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[TokenInput]:
        raise NotImplementedError

    def render_prompt(self, messages: Sequence[ChatMessage]) -> TokenInput:
        raise NotImplementedError

    def render_raw(
        self, inputs: Sequence[RawInput], *, on_overflow: OnOverflow
    ) -> list[TokenInput]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _two_render_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "RENDER_THREADS", 2)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def cache() -> RewardCache:
    return RewardCache(100)


def pipeline_of(engine: FakeEngine, cache: RewardCache, *, fingerprint: str = "f") -> Pipeline:
    batcher = Batcher(engine, max_batch_tokens=100, max_pending_tokens=MAX_TOKENS)
    return Pipeline(
        batcher,
        FakeRenderer,
        fingerprint=fingerprint,
        cache=cache,
        max_pending_tokens=MAX_TOKENS,
    )


@pytest.fixture
async def pipeline(engine: FakeEngine, cache: RewardCache) -> AsyncIterator[Pipeline]:
    pipeline = pipeline_of(engine, cache)
    pipeline.start()
    yield pipeline
    await pipeline.aclose()


def items(*firsts: int) -> list[TokenInput]:
    return [TokenInput((first, 1)) for first in firsts]


async def test_what_is_not_finite_is_computed_again(pipeline: Pipeline, engine: FakeEngine) -> None:
    for _ in range(2):
        await pipeline.compute(items(NOT_A_NUMBER), Call())
    assert engine.batches == [[(NOT_A_NUMBER, 1)]] * 2


async def test_inputs_are_computed_in_their_order(pipeline: Pipeline, engine: FakeEngine) -> None:
    outcomes = await pipeline.compute(items(3, 1, 2), Call())
    assert outcomes.labels == [(4.0,), (2.0,), (3.0,)]
    assert (outcomes.computed_tokens, outcomes.cached) == (6, 0)
    assert set(outcomes.seconds) == {"wait", "forward"}
    assert pipeline.engine == "padded"


async def test_known_rewards_do_not_reach_the_device(
    pipeline: Pipeline, engine: FakeEngine
) -> None:
    await pipeline.compute(items(1, 2), Call())
    again = await pipeline.compute(items(2, 1), Call())
    assert again.labels == [(3.0,), (2.0,)]
    assert (again.computed_tokens, again.cached) == (0, 2)
    assert again.seconds["forward"] == 0.0
    assert len(engine.batches) == 1


async def test_only_what_is_unknown_is_computed(pipeline: Pipeline, engine: FakeEngine) -> None:
    await pipeline.compute(items(1), Call())
    mixed = await pipeline.compute(items(2, 1, 3), Call())
    assert mixed.labels == [(3.0,), (2.0,), (4.0,)]
    assert (mixed.computed_tokens, mixed.cached) == (4, 1)
    assert engine.batches == [[(1, 1)], [(2, 1), (3, 1)]]


async def test_a_request_may_want_its_rewards_computed_anew(
    pipeline: Pipeline, engine: FakeEngine
) -> None:
    await pipeline.compute(items(1), Call())
    anew = await pipeline.compute(items(1), Call(uses_cache=False))
    assert (anew.computed_tokens, anew.cached) == (2, 0)
    assert len(engine.batches) == 2


async def test_another_models_rewards_are_not_taken(
    pipeline: Pipeline, engine: FakeEngine, cache: RewardCache
) -> None:
    await pipeline.compute(items(1), Call())
    other = pipeline_of(engine, cache, fingerprint="g")
    other.start()
    assert (await other.compute(items(1), Call())).cached == 0
    await other.aclose()


async def test_an_error_is_not_remembered(pipeline: Pipeline, engine: FakeEngine) -> None:
    engine.poison = {1}
    failed = await pipeline.compute(items(1, 2), Call())
    assert failed.labels == [ItemError(code="out_of_memory", detail="too large"), (3.0,)]
    engine.poison = set()
    assert (await pipeline.compute(items(1, 2), Call())).labels == [(2.0,), (3.0,)]


async def test_a_request_that_may_not_spend_its_tokens_is_not_computed(
    pipeline: Pipeline, engine: FakeEngine
) -> None:
    told: list[int] = []

    def refuse(tokens: int) -> None:
        told.append(tokens)
        raise QuotaExceeded("no tokens left")

    with pytest.raises(QuotaExceeded):
        await pipeline.compute(items(1, 2), Call(on_tokens=refuse))
    assert told == [4]
    assert engine.batches == []


async def test_nothing_to_compute_needs_no_device(pipeline: Pipeline) -> None:
    outcomes = await pipeline.compute([], Call())
    assert (outcomes.labels, outcomes.computed_tokens, outcomes.cached) == ([], 0, 0)


async def test_every_thread_renders_with_a_renderer_of_its_own(pipeline: Pipeline) -> None:
    barrier = threading.Barrier(2, timeout=30)

    def work(renderer: Renderer) -> tuple[Renderer, int]:
        barrier.wait()
        return renderer, threading.get_ident()

    first, second = await asyncio.gather(
        pipeline.render(work, characters=1), pipeline.render(work, characters=1)
    )
    assert first[0] is not second[0]
    for renderer, thread in (first, second):
        assert isinstance(renderer, FakeRenderer)
        assert renderer.thread == thread != threading.get_ident()


async def test_what_rendering_raises_reaches_the_caller_and_frees_its_room(
    pipeline: Pipeline,
) -> None:
    def fail(renderer: Renderer) -> None:
        raise RenderingFailed("no such role")

    for _ in range(3):
        with pytest.raises(RenderingFailed):
            await pipeline.render(fail, characters=MAX_TOKENS * CHARACTERS_A_TOKEN)


async def test_too_much_text_that_waits_to_be_rendered_is_sent_away(pipeline: Pipeline) -> None:
    limit = MAX_TOKENS * CHARACTERS_A_TOKEN
    gate = threading.Event()
    waiting = asyncio.create_task(
        pipeline.render(lambda renderer: gate.wait(timeout=30), characters=limit - 10)
    )
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="too much text") as sent:
        await pipeline.render(lambda renderer: None, characters=11)
    assert sent.value.retry_after == 1
    gate.set()
    await waiting
    await pipeline.render(lambda renderer: None, characters=limit * 3)  # alone, any size will do


async def test_what_can_find_no_room_is_refused_before_it_is_rendered(
    pipeline: Pipeline, engine: FakeEngine
) -> None:
    rendered: list[str] = []
    engine.gate.clear()
    busy = asyncio.create_task(pipeline.compute(items(1, 2, 3), Call()))
    await asyncio.sleep(0)  # 6 of 10 tokens
    with pytest.raises(Overloaded, match="6 tokens wait, 5 more would pass the limit 10"):
        await pipeline.render(
            lambda renderer: rendered.append("too much"), characters=5 * CHARACTERS_A_TOKEN
        )
    await pipeline.render(
        lambda renderer: rendered.append("shares most of it"),
        characters=5 * CHARACTERS_A_TOKEN,
        unshared=4 * CHARACTERS_A_TOKEN,
    )
    engine.gate.set()
    await busy
    await pipeline.render(
        lambda renderer: rendered.append("idle"), characters=99 * CHARACTERS_A_TOKEN
    )
    assert rendered == ["shares most of it", "idle"]


async def test_a_caller_that_leaves_while_rendering_frees_its_room(pipeline: Pipeline) -> None:
    limit = MAX_TOKENS * CHARACTERS_A_TOKEN
    gate = threading.Event()
    waiting = asyncio.create_task(
        pipeline.render(lambda renderer: gate.wait(timeout=30), characters=limit)
    )
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await pipeline.render(lambda renderer: "rendered", characters=limit) == "rendered"
    gate.set()


async def test_equal_inputs_of_a_request_are_computed_once(
    pipeline: Pipeline, engine: FakeEngine
) -> None:
    """Two batches may differ in the last digit, and equal candidates are a tie."""
    outcomes = await pipeline.compute(items(3, 5, 3, 3), Call(uses_cache=False))
    assert outcomes.labels == [(4.0,), (6.0,), (4.0,), (4.0,)]
    assert [ids for batch in engine.batches for ids in batch] == [(3, 1), (5, 1)]
