from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reward_server.cache import RewardCache
from reward_server.errors import ServerStartError
from reward_server.loading import Resources, load_scorer
from reward_server.protocol import CandidateResult
from reward_server.scorer import Call, Scorer
from reward_server.scorers.multi_objective import resolve_weights
from reward_server.specs import MultiObjectiveSpec
from tests.reward_server.tiny import group, make_tokenizer, save_model

pytestmark = pytest.mark.anyio

TOKENIZER = make_tokenizer()
NAMES = ("help", "safety", "brevity")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multi_objective")
    model = save_model(folder, TOKENIZER, num_labels=3)
    model.config.id2label = dict(enumerate(NAMES))
    model.save_pretrained(folder)
    return folder


@asynccontextmanager
async def served(
    folder: Path, cache: RewardCache | None = None, **settings: Any
) -> AsyncIterator[Scorer]:
    resources = Resources(
        cache=RewardCache(0) if cache is None else cache,
        max_pending_tokens=10_000,
        bulk_patience_seconds=1.0,
    )
    spec = MultiObjectiveSpec(
        kind="multi_objective", model=str(folder), dtype="float32", **settings
    )
    scorer = load_scorer("mo", spec, resources, {})
    scorer.start()
    yield scorer
    await scorer.aclose()


async def results(scorer: Scorer) -> tuple[CandidateResult, ...]:
    return (await scorer.score([group()], Call())).groups[0].results


async def test_a_reward_is_the_weighted_sum_of_its_parts(folder: Path) -> None:
    weights = {"help": 0.7, "brevity": -0.2}
    async with served(folder, weights=weights) as scorer:
        for result in await results(scorer):
            assert result.parts is not None
            assert list(result.parts) == list(NAMES)
            expected = 0.7 * result.parts["help"] - 0.2 * result.parts["brevity"]
            assert result.reward == pytest.approx(expected)


async def test_the_parts_are_the_logits_of_the_head(folder: Path) -> None:
    async with served(folder) as scorer:
        found = await results(scorer)
    from transformers import AutoModelForSequenceClassification

    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    for result, answer in zip(found, group().candidates, strict=True):
        messages = [
            {"role": "user", "content": "What helps a stuffy nose?"},
            {"role": "assistant", "content": answer},
        ]
        ids = TOKENIZER.apply_chat_template(messages, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logits = model(**ids).logits[0].tolist()
        assert result.parts is not None
        assert list(result.parts.values()) == pytest.approx(logits, abs=1e-4)
        assert result.reward == pytest.approx(sum(logits) / 3, abs=1e-4)


async def test_objectives_may_be_named_anew(folder: Path) -> None:
    async with served(folder, objectives=("x", "y", "z"), weights={"y": 1.0}) as scorer:
        for result in await results(scorer):
            assert result.parts is not None
            assert list(result.parts) == ["x", "y", "z"]
            assert result.reward == result.parts["y"]


async def test_weights_decide_the_fingerprint_and_share_what_was_computed(folder: Path) -> None:
    cache = RewardCache(100)
    async with (
        served(folder, cache, weights={"help": 1.0}) as helpful,
        served(folder, cache, weights={"safety": 1.0}) as safe,
    ):
        assert helpful.info.fingerprint != safe.info.fingerprint
        first = await results(helpful)
        scored = await safe.score([group()], Call())
        assert scored.usage.cached_candidates == 2
        for one, other in zip(first, scored.groups[0].results, strict=True):
            assert one.parts == other.parts
            assert one.parts is not None
            assert (one.reward, other.reward) == (one.parts["help"], one.parts["safety"])


async def test_one_broken_objective_is_an_error_and_no_sum(tmp_path: Path) -> None:
    model = save_model(tmp_path, TOKENIZER, num_labels=2)
    model.score.weight.data[1] = math.nan
    model.save_pretrained(tmp_path)
    async with served(tmp_path, weights={"LABEL_0": 1.0}) as scorer:
        for result in await results(scorer):
            assert result.reward is None
            assert result.error is not None
            assert result.error.code == "non_finite_reward"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True))
def test_without_weights_all_weigh_the_same(labels: list[str]) -> None:
    weights = resolve_weights(labels, (), {})
    assert list(weights) == labels
    assert sum(weights.values()) == pytest.approx(1.0)
    assert len(set(weights.values())) == 1


def test_what_has_no_weight_weighs_nothing() -> None:
    assert resolve_weights(NAMES, (), {"safety": 2.0}) == {
        "help": 0.0,
        "safety": 2.0,
        "brevity": 0.0,
    }


@pytest.mark.parametrize(
    ("objectives", "weights", "message"),
    [
        pytest.param(("a", "b"), {}, "the head has 3 logits; name each", id="too few"),
        pytest.param(("a", "b", "c", "d"), {}, "the head has 3 logits", id="too many"),
        pytest.param(("a", "a", "b"), {}, "the head has 3 logits", id="double"),
        pytest.param((), {"harm": 1.0}, "weights: harm: no such objective; known", id="unknown"),
        pytest.param((), {"help": math.nan}, "weights: help: not finite; give", id="no number"),
        pytest.param(("a", "b", "c"), {"help": 1.0}, "known are a, b, c", id="renamed"),
    ],
)
def test_names_that_do_not_fit_the_head_are_refused(
    objectives: tuple[str, ...], weights: dict[str, float], message: str
) -> None:
    with pytest.raises(ServerStartError, match=message):
        resolve_weights(NAMES, objectives, weights)
