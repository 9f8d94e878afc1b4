from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reward_server import calibration
from reward_server.batcher import Batcher
from reward_server.cache import RewardCache
from reward_server.canary import Canary, CanaryOutcome, CanaryWatch
from reward_server.drift import DriftMonitor
from reward_server.metrics import Metrics
from reward_server.pipeline import Pipeline
from reward_server.protocol import CandidateResult, EngineName, ItemError, Usage
from reward_server.registry import Registry, Served
from reward_server.scorers.implicit import ImplicitScorer
from reward_server.scorers.sequence_classification import SequenceClassificationScorer
from reward_server.specs import RulesSpec
from reward_server.tokens import Labels, TokenInput
from tests.reward_server.tiny import FakeScorer

SPEC = RulesSpec.model_validate({"kind": "rules", "rules": [{"rule": "length"}]})
USAGE = Usage(tokens=30, computed_tokens=20, cached_candidates=1)


class NoEngine:
    """An engine that is never asked."""

    name: EngineName = "padded"

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        raise AssertionError

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        raise AssertionError


def pipeline() -> Pipeline:
    batcher = Batcher(NoEngine(), max_batch_tokens=7, max_pending_tokens=100)
    return Pipeline(
        batcher,
        cast(Any, None),
        fingerprint="f",
        cache=RewardCache(0),
        max_pending_tokens=100,
    )


def values(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Every sample by its name and its labels' values."""
    return {
        (sample.name.removeprefix("reward_server_"), ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def metrics(registry: Registry) -> Metrics:
    return Metrics(registry)


def test_a_scored_request_is_counted_and_its_time_split(metrics: Metrics) -> None:
    failed = ItemError(code="out_of_memory", detail="no room")
    results = [
        CandidateResult(reward=1.0, tokens=10, truncated_tokens=4),
        CandidateResult(reward=None, tokens=20, error=failed),
    ]
    phases = metrics.observe(results, USAGE, {"wait": 0.5, "forward": 1.0}, seconds=2.0)
    assert phases == {"render": 0.0, "wait": 0.5, "forward": 1.0, "other": 0.5}
    found = values(metrics)
    expected = {
        "candidates_total": 2.0,
        "item_errors_total": 1.0,
        "tokens_total": 30.0,
        "computed_tokens_total": 20.0,
        "cached_candidates_total": 1.0,
        "truncated_tokens_total": 4.0,
    }
    assert {name: found[name, ""] for name in expected} == expected
    assert found["phase_seconds_sum", "forward"] == 1.0


def test_no_phase_is_shorter_than_nothing(metrics: Metrics) -> None:
    phases = metrics.observe([], USAGE, {"forward": 3.0}, seconds=2.0)
    assert phases["other"] == 0.0


def test_answers_are_counted_by_route_and_status(metrics: Metrics) -> None:
    metrics.answered(route="/v1/score", status=200)
    metrics.answered(route="/v1/score", status=200)
    metrics.answered(route="unmatched", status=404)
    found = values(metrics)
    assert found["requests_total", "/v1/score,200"] == 2.0
    assert found["requests_total", "unmatched,404"] == 1.0


def test_a_number_is_read_when_somebody_looks(metrics: Metrics) -> None:
    kept = [1.0]
    metrics.gauge("cache_entries", "Rewards kept.", lambda: kept[0])
    assert values(metrics)["cache_entries", ""] == 1.0
    kept[0] = 2.0
    assert values(metrics)["cache_entries", ""] == 2.0


def test_every_model_shows_its_own_queue(metrics: Metrics, registry: Registry) -> None:
    info = FakeScorer().info
    plain = SequenceClassificationScorer(info, pipeline())
    policy, reference = pipeline(), pipeline()
    policy.batcher.tally.batches = 3
    reference.batcher.tally.batches = 4
    registry.put(Served("plain", SPEC, plain))
    registry.put(Served("dpo", SPEC, ImplicitScorer(info, policy, reference, beta=0.1)))
    registry.put(Served("rules", SPEC, FakeScorer("rules")))
    found = values(metrics)
    assert {key for key in found if key[0] == "ready"} == {
        ("ready", "plain"),
        ("ready", "dpo"),
        ("ready", "rules"),
    }
    assert found["batch_budget_tokens", "plain"] == 7.0
    assert found["pending_tokens", "plain"] == 0.0
    assert (found["batches_total", "dpo"], found["batches_total", "dpo.reference"]) == (3.0, 4.0)
    assert ("batches_total", "rules") not in found


def test_what_cannot_be_told_yet_is_left_out(metrics: Metrics, registry: Registry) -> None:
    made = calibration.fit([0.0, 2.0], [1, 9], fingerprint="f", name="n", sha256="0" * 64)
    served = Served("default", SPEC, FakeScorer())
    served.drift = DriftMonitor(made, least=2)
    registry.put(served)
    before = values(metrics)
    for reward in (0.0, 2.0):
        served.drift.observe(reward, 5)
    after = values(metrics)
    assert ("drift_reward_ks", "default") not in before
    assert before["drift_reference_length_slope", "default"] == 0.25
    assert after["drift_reward_ks", "default"] == 0.0
    assert ("drift_length_slope", "default") not in after  # all lengths are equal


def watched(registry: Registry, name: str) -> None:
    served = Served(name, SPEC, FakeScorer(name))
    served.canary = CanaryWatch(cast(Canary, None), served.scorer.score, interval_seconds=1.0)
    registry.put(served)


def test_canaries_show_the_last_look_that_had_rewards(metrics: Metrics, registry: Registry) -> None:
    watched(registry, "default")
    metrics.canary("default", CanaryOutcome(max_abs_diff=0.25, is_exact=False, failed=0))
    metrics.canary("default", CanaryOutcome(max_abs_diff=None, is_exact=False, failed=2))
    found = values(metrics)
    assert found["canary_max_abs_diff", "default"] == 0.25
    assert found["canary_failed", "default"] == 2.0


def test_the_canaries_of_a_model_that_is_watched_no_more_are_forgotten(
    metrics: Metrics, registry: Registry
) -> None:
    for name in ("default", "other"):
        watched(registry, name)
        metrics.canary(name, CanaryOutcome(max_abs_diff=0.0, is_exact=True, failed=0))
    before = values(metrics)
    registry._served["default"] = Served("default", SPEC, FakeScorer())
    after = values(metrics)
    names = {"canary_max_abs_diff", "canary_failed"}
    assert {model for name, model in before if name in names} == {"default", "other"}
    assert {model for name, model in after if name in names} == {"other"}
