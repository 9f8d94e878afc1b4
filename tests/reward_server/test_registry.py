from __future__ import annotations

import asyncio

import pytest

from reward_server.errors import ModelInUse, UnknownModel
from reward_server.registry import Registry, Served
from reward_server.scorer import Scorer
from reward_server.scorers.ensemble import EnsembleScorer
from reward_server.specs import EnsembleSpec, RulesSpec
from tests.reward_server.tiny import FakeScorer

pytestmark = pytest.mark.anyio

SPEC = RulesSpec.model_validate({"kind": "rules", "rules": [{"rule": "length"}]})


def serve(registry: Registry, scorer: FakeScorer, *members: Served) -> Served:
    """Puts a started model into the registry."""
    served = Served(scorer.info.name, SPEC, scorer, members)
    scorer.start()
    registry.put(served)
    return served


def plain(registry: Registry, *names: str) -> list[Served]:
    return [serve(registry, FakeScorer(name)) for name in names]


def is_open(served: Served) -> bool:
    assert isinstance(served.scorer, FakeScorer)
    return served.scorer.is_open


async def settled() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_name_and_its_aliases_lead_to_the_model() -> None:
    registry = Registry()
    first, second = plain(registry, "first", "second")
    registry.set_aliases({"production": "first"})
    assert registry.find("first") is registry.find("production") is first
    registry.set_aliases({"production": "second"})
    assert registry.find("production") is second
    assert registry.info(second).aliases == ("production",)
    registry.remove_alias("production")
    with pytest.raises(UnknownModel, match="'production' is not served; this server has 'first'"):
        registry.find("production")


async def test_aliases_are_set_all_or_none() -> None:
    registry = Registry()
    plain(registry, "first")
    with pytest.raises(UnknownModel):
        registry.set_aliases({"good": "first", "bad": "second"})
    with pytest.raises(UnknownModel):
        registry.find("good")


async def test_a_model_cannot_hide_behind_an_alias() -> None:
    registry = Registry()
    plain(registry, "first")
    registry.set_aliases({"production": "first"})
    with pytest.raises(ModelInUse, match="'production' is an alias of 'first'"):
        plain(registry, "production")
    with pytest.raises(ModelInUse, match="a model has this name"):
        registry.set_aliases({"first": "first"})


async def test_a_replaced_model_is_open_until_its_last_request_has_ended() -> None:
    registry = Registry()
    (old,) = plain(registry, "default")
    async with old.lease(), old.lease():
        async with registry.find("default").lease():
            (new,) = plain(registry, "default")
            await settled()
        await settled()
        assert registry.find("default") is new
        assert is_open(old)
    await settled()
    assert not is_open(old)
    assert is_open(new)


async def test_a_model_without_requests_leaves_at_once() -> None:
    registry = Registry()
    old, _ = plain(registry, "old", "new")
    registry.remove("old")
    await settled()
    assert not is_open(old)
    with pytest.raises(UnknownModel):
        registry.find("old")


async def test_a_request_that_fails_frees_its_model() -> None:
    registry = Registry()
    old, _ = plain(registry, "old", "new")

    async def fail() -> None:
        async with old.lease():
            registry.remove("old")
            await settled()
            assert is_open(old)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await settled()
    assert not is_open(old)


async def test_a_request_on_an_ensemble_keeps_members_of_members_open() -> None:
    registry = Registry()
    leaf, other = plain(registry, "leaf", "other")
    inner = serve(registry, FakeScorer("inner"), leaf, other)
    outer = serve(registry, FakeScorer("outer"), inner, leaf)
    async with outer.lease():
        plain(registry, "leaf")
        await settled()
        assert is_open(leaf)
    await settled()
    assert not is_open(leaf)


async def test_dependants_come_in_the_order_in_which_they_are_made() -> None:
    registry = Registry()
    (leaf,) = plain(registry, "leaf")
    serve(registry, FakeScorer("outer"))
    inner = serve(registry, FakeScorer("inner"), leaf)
    serve(registry, FakeScorer("outer"), inner)
    assert [each.name for each in registry.all()] == ["leaf", "outer", "inner"]
    assert [each.name for each in registry.dependants("leaf")] == ["inner", "outer"]
    assert [each.name for each in registry.dependants("inner")] == ["outer"]
    assert registry.dependants("outer") == []


async def test_what_others_need_is_not_removed() -> None:
    registry = Registry()
    (leaf,) = plain(registry, "leaf")
    with pytest.raises(ModelInUse, match="its only model"):
        registry.remove("leaf")
    serve(registry, FakeScorer("both"), leaf)
    registry.set_aliases({"production": "both"})
    for name, why in {"leaf": "model 'both'", "both": "alias 'production'"}.items():
        with pytest.raises(ModelInUse, match=why):
            registry.remove(name)
    with pytest.raises(ModelInUse, match="'production' cannot be removed"):
        registry.remove("production")
    assert len(registry.all()) == 2


async def test_it_is_ready_when_every_model_is() -> None:
    registry = Registry()
    empty = registry.is_ready
    _, second = plain(registry, "first", "second")
    full = registry.is_ready
    await second.scorer.aclose()
    assert [empty, full, registry.is_ready] == [False, True, False]


class Closing(FakeScorer):
    """Writes its name down when it is closed."""

    def __init__(self, name: str, closed: list[str]) -> None:
        super().__init__(name)
        self._closed = closed

    async def aclose(self) -> None:
        await super().aclose()
        self._closed.append(self.info.name)


async def test_the_last_to_come_is_closed_first_and_what_was_replaced_before_all() -> None:
    registry, closed = Registry(), list[str]()
    old = serve(registry, Closing("leaf", closed))
    async with old.lease():
        leaf = serve(registry, Closing("leaf", closed))
        serve(registry, Closing("both", closed), leaf)
        closing = asyncio.create_task(registry.aclose())
        await settled()
        assert not closed
    await closing
    assert closed == ["leaf", "both", "leaf"]


async def test_an_ensemble_scores_to_its_end_while_its_members_are_replaced() -> None:
    registry = Registry()
    scorers = {name: FakeScorer(name) for name in ("a", "b")}
    members = [serve(registry, scorer) for scorer in scorers.values()]
    spec = EnsembleSpec(kind="ensemble", members=("a", "b"))
    ensemble: Scorer = EnsembleScorer("both", spec, scorers)
    ensemble.start()
    registry.put(Served("both", spec, ensemble, members))
    async with registry.find("both").lease():
        plain(registry, "a", "b")
        await settled()
        assert ensemble.is_ready
    await settled()
    assert not ensemble.is_ready
