from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from transformers import AutoModelForSequenceClassification, GPT2Config

from reward_server import calibration, loading, swap
from reward_server.cache import RewardCache
from reward_server.canary import CanaryOutcome, make
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    DeviceOutOfMemory,
    ModelInUse,
    ModelNotLoaded,
    ServerStartError,
    UnknownModel,
)
from reward_server.loading import Resources
from reward_server.protocol import CandidateResult, EngineName, GroupResult
from reward_server.registry import Registry
from reward_server.scorer import Call, Scored, Scorer
from reward_server.specs import MODEL_SPEC, ModelSpec
from reward_server.swap import Swapper
from reward_server.tokens import Labels, TokenInput
from tests.reward_server.tiny import group, make_tokenizer

pytestmark = pytest.mark.anyio


def rules(max_words: int) -> ModelSpec:
    rule = {"rule": "length", "max_words": max_words}
    return MODEL_SPEC.validate_python({"kind": "rules", "rules": [rule]})


def ensemble(*members: str) -> ModelSpec:
    return MODEL_SPEC.validate_python({"kind": "ensemble", "members": members})


Start = Callable[..., Swapper]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def configured(registry: Registry) -> Start:
    """What serves models with further settings of the server; nothing is served yet."""
    resources = Resources(RewardCache(0), max_pending_tokens=100, bulk_patience_seconds=1.0)

    def configured(models: Mapping[str, ModelSpec], **settings: Any) -> Swapper:
        on_canary = settings.pop("on_canary", lambda name, outcome: None)
        config = RewardServerConfig(models=dict(models), **settings)
        return Swapper(registry, resources, config, on_canary=on_canary)

    return configured


@pytest.fixture
async def start(registry: Registry, configured: Start) -> AsyncIterator[Start]:
    """Serves models until the end of the test."""

    def start(models: Mapping[str, ModelSpec], **settings: Any) -> Swapper:
        swapper = configured(models, **settings)
        swapper.start(swapper.load({}))
        return swapper

    yield start
    await registry.aclose()


async def score(registry: Registry, name: str, candidate: str = "two words") -> Scored:
    served = registry.find(name)
    async with served.lease():
        return await served.scorer.score([group("q", candidate)], Call())


def reward(scored: Scored) -> float | None:
    return scored.groups[0].results[0].reward


async def test_a_configured_ensemble_may_stand_before_its_members(
    registry: Registry, start: Start
) -> None:
    start({"both": ensemble("a", "b"), "a": rules(1), "b": rules(2)}, aliases={"x": "both"})
    assert reward(await score(registry, "x")) == 0.5
    assert [each.name for each in registry.find("both").members] == ["a", "b"]


async def test_a_member_that_is_not_configured_is_refused_in_one_line(start: Start) -> None:
    with pytest.raises(ServerStartError, match="members: b of ensemble both are not served"):
        start({"both": ensemble("a", "b"), "a": rules(1)})


async def test_a_swap_remakes_every_ensemble_above_the_model(
    registry: Registry, start: Start
) -> None:
    swapper = start({"a": rules(1), "b": rules(2), "inner": ensemble("a", "b")})
    await swapper.serve("outer", ensemble("inner", "b"))
    before = {each.name: each.scorer.info.fingerprint for each in registry.all()}
    assert reward(await score(registry, "outer")) == 0.75

    await swapper.serve("a", rules(9))

    after = {each.name: each.scorer.info.fingerprint for each in registry.all()}
    assert [name for name in before if before[name] != after[name]] == ["a", "inner", "outer"]
    assert reward(await score(registry, "outer")) == 1.0
    assert registry.is_ready


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("a", ensemble("a", "b"), id="itself"),
        pytest.param("a", ensemble("inner", "b"), id="an ensemble of it"),
        pytest.param("b", ensemble("outer", "a"), id="an ensemble of an ensemble of it"),
    ],
)
async def test_an_ensemble_of_itself_is_refused(
    registry: Registry, start: Start, name: str, spec: ModelSpec
) -> None:
    swapper = start({"a": rules(1), "b": rules(2), "inner": ensemble("a", "b")})
    await swapper.serve("outer", ensemble("inner", "b"))
    with pytest.raises(ModelNotLoaded, match=f"is made of '{name}' itself"):
        await swapper.serve(name, spec)
    assert reward(await score(registry, "outer")) == 0.75


async def test_an_ensemble_may_be_swapped_for_one_of_other_members(
    registry: Registry, start: Start
) -> None:
    swapper = start({"a": rules(1), "b": rules(2), "c": rules(3), "both": ensemble("a", "b")})
    await swapper.serve("both", ensemble("b", "c"))
    assert reward(await score(registry, "both")) == 1.0


async def test_a_model_that_cannot_be_served_changes_nothing(
    registry: Registry, start: Start, configured: Start, tmp_path: Path
) -> None:
    models = {"a": rules(1), "b": rules(2), "both": ensemble("a", "b")}
    swapper = start(models)
    before = registry.all()
    with pytest.raises(ModelNotLoaded, match="members: c of ensemble a are not served"):
        await swapper.serve("a", ensemble("b", "c"))
    # Its own artefact, or that of an ensemble above it, cannot be read.
    for name in ("a", "both"):
        unreadable = configured(models, calibrations={name: tmp_path / "calibration.json"})
        with pytest.raises(ModelNotLoaded, match="no such file"):
            await unreadable.serve("a", rules(9))
    assert registry.all() == before
    assert registry.is_ready


def save_short(folder: Path) -> None:
    """A reward model that is complete and reads four tokens at most."""
    tokenizer, auto = make_tokenizer(), AutoModelForSequenceClassification
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    auto.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]  # theirs
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("is_deterministic", [False, True])
async def test_a_model_that_cannot_compute_is_refused_and_not_served(
    registry: Registry, start: Start, tmp_path: Path, is_deterministic: bool
) -> None:
    swapper = start({"a": rules(1)})
    save_short(tmp_path)
    spec = {"kind": "sequence_classification", "model": str(tmp_path), "dtype": "float32"}
    with pytest.raises(ModelNotLoaded, match="it cannot compute 8 tokens"):
        await swapper.serve(
            "a", MODEL_SPEC.validate_python({**spec, "deterministic": is_deterministic})
        )
    assert registry.is_ready
    assert reward(await score(registry, "a", "word")) == 1.0


class Raising:
    """An engine that fits no device."""

    name: EngineName = "padded"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        raise AssertionError

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        raise self._error


@pytest.mark.parametrize(
    "error", [DeviceOutOfMemory("no room"), RuntimeError("no kernel"), ValueError("a shape")]
)
def test_whatever_keeps_a_model_from_computing_is_one_line(error: Exception) -> None:
    with pytest.raises(ServerStartError, match=rf"\({type(error).__name__}: {error}\); give one"):
        loading.prove(Raising(error))


async def test_a_name_that_is_an_alias_is_refused_before_anything_is_loaded(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1)}, aliases={"production": "a"})
    monkeypatch.delattr(swap, "load_scorer")
    with pytest.raises(ModelInUse, match="'production' is an alias of 'a'"):
        await swapper.serve("production", rules(2))


class Gate:
    """Holds the loading thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self._opened = threading.Event()
        self._loop = asyncio.get_running_loop()
        monkeypatch.setattr(swap, "load_scorer", self._load)

    def open(self) -> None:
        self._opened.set()

    def _load(
        self, name: str, spec: ModelSpec, resources: Resources, members: Mapping[str, Scorer]
    ) -> Scorer:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self._opened.wait(timeout=30)
        return loading.load_scorer(name, spec, resources, members)


async def test_what_is_served_answers_while_its_successor_is_loaded(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1)})
    gate = Gate(monkeypatch)
    swapping = asyncio.create_task(swapper.serve("a", rules(9)))
    await gate.begun.wait()
    assert reward(await score(registry, "a")) == 0.0
    gate.open()
    await swapping
    assert reward(await score(registry, "a")) == 1.0


async def test_swaps_happen_one_after_the_other(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1)})
    gate = Gate(monkeypatch)
    swaps = [asyncio.create_task(swapper.serve("a", rules(words))) for words in (5, 6, 7)]
    await gate.begun.wait()
    gate.open()
    served = [(await each).fingerprint for each in swaps]
    assert registry.find("a").scorer.info.fingerprint == served[-1]
    assert len(set(served)) == 3


async def test_what_is_removed_while_a_model_is_loaded_does_not_come_back(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1), "b": rules(2), "both": ensemble("a", "b")})
    gate = Gate(monkeypatch)
    swapping = asyncio.create_task(swapper.serve("a", rules(9)))
    await gate.begun.wait()
    registry.remove("both")
    gate.open()
    await swapping
    assert [each.name for each in registry.all()] == ["a", "b"]


async def test_a_member_that_is_removed_while_its_ensemble_is_loaded_ends_the_swap(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1), "b": rules(2), "c": rules(3)})
    gate = Gate(monkeypatch)
    swapping = asyncio.create_task(swapper.serve("both", ensemble("a", "b")))
    await gate.begun.wait()
    registry.remove("b")
    gate.open()
    with pytest.raises(UnknownModel, match="'b' is not served"):
        await swapping
    assert [each.name for each in registry.all()] == ["a", "c"]


async def test_an_alias_that_is_set_while_its_model_is_loaded_ends_the_swap(
    registry: Registry, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapper = start({"a": rules(1)})
    gate = Gate(monkeypatch)
    swapping = asyncio.create_task(swapper.serve("new", rules(2)))
    await gate.begun.wait()
    registry.set_aliases({"new": "a"})
    gate.open()
    with pytest.raises(ModelInUse):
        await swapping
    assert registry.find("new").name == "a"


def calibrate(path: Path, fingerprint: str) -> None:
    made = calibration.fit([0.0, 1.0], [0, 0], fingerprint=fingerprint, name="n", sha256="0" * 64)
    made.save(path)


async def test_a_successor_goes_without_the_artefacts_of_its_predecessor_and_says_so(
    registry: Registry, start: Start, configured: Start, tmp_path: Path
) -> None:
    path, models = tmp_path / "calibration.json", {"a": rules(1), "b": rules(2)}
    start(models)
    calibrate(path, registry.find("a").scorer.info.fingerprint)
    swapper = configured(models, calibrations={"a": path})
    with structlog.testing.capture_logs() as logs:
        await swapper.serve("a", rules(9))
        assert registry.find("a").calibration is None
        await swapper.serve("a", rules(1))
    assert registry.find("a").calibration is not None
    events = [entry for entry in logs if entry["event"] == "artefact.left_out"]
    assert len(events) == 1
    assert "calibration: made for the reward model" in events[0]["reason"]


async def test_a_canary_is_watched_from_the_first_moment_until_its_model_leaves(
    registry: Registry, start: Start, tmp_path: Path
) -> None:
    path, seen = tmp_path / "canary.json", list[tuple[str, CanaryOutcome]]()
    looked = asyncio.Event()

    def on_canary(name: str, outcome: CanaryOutcome) -> None:
        seen.append((name, outcome))
        looked.set()

    start({"a": rules(1)})
    fingerprint = registry.find("a").scorer.info.fingerprint
    result = GroupResult(id="q", results=(CandidateResult(reward=1.0, tokens=0),))
    make([group("q", "two words")], [result], fingerprint).save(path)
    swapper = start({"a": rules(1)}, canaries={"a": path}, on_canary=on_canary)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(30):
            await looked.wait()
    ((name, outcome),) = seen
    [alarm] = [entry for entry in logs if entry["event"] == "canary.unsound"]
    assert (alarm["model"], alarm["max_abs_diff"]) == ("a", 1.0)
    assert (name, outcome.max_abs_diff, outcome.is_sound) == ("a", 1.0, False)
    watch = registry.find("a").canary
    await swapper.serve("a", rules(9))
    assert watch is not None
    assert watch.last == outcome
    assert registry.find("a").canary is None
