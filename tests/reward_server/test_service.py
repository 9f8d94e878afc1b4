"""The service without HTTP, over fake scorers."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import pytest

from reward_server import calibration
from reward_server.access import ANONYMOUS, Caller, Quotas
from reward_server.audit import AuditLog
from reward_server.audit_record import AuditRecord
from reward_server.config import RewardServerConfig
from reward_server.drift import DriftMonitor
from reward_server.errors import (
    FingerprintMismatch,
    LimitExceeded,
    QuotaExceeded,
    UnknownModel,
    UnsupportedInput,
)
from reward_server.metrics import Metrics
from reward_server.protocol import CandidateResult, ItemError, ScoreRequest
from reward_server.registry import Registry, Served
from reward_server.scorer import RawInput, RawRequest
from reward_server.service import BoundService, Charge, Service, check_limits, view
from reward_server.specs import RulesSpec
from tests.reward_server.tiny import FakeRawScorer, FakeScorer, group

pytestmark = pytest.mark.anyio

SPEC = RulesSpec.model_validate({"kind": "rules", "rules": [{"rule": "length"}]})
SLOW = Caller("slow", frozenset({"score"}), tokens_per_minute=40)


class Setup:
    """A service over one model, and what of it the tests look at."""

    def __init__(self, scorer: FakeScorer, audit: AuditLog | None = None) -> None:
        self.scorer = scorer
        registry = Registry()
        scorer.start()
        self.served = Served("default", SPEC, scorer)
        registry.put(self.served)
        registry.set_aliases({"production": "default"})
        self.metrics = Metrics(registry)
        config = RewardServerConfig(
            model="unused", max_groups_per_request=2, max_candidates_per_group=2
        )
        # A clock that stands still: buckets do not fill.
        quotas = Quotas(clock=lambda: 0.0)
        self.service = Service(config, registry, self.metrics, quotas, audit)

    def bound(self, caller: Caller = ANONYMOUS) -> BoundService:
        return BoundService(self.service, caller, request_id="r-1", route="/v1/score")

    def metric(self, line: str) -> bool:
        return line in self.metrics.exposition().decode().splitlines()


@pytest.fixture
def setup() -> Setup:
    return Setup(FakeRawScorer())


def asking(*candidates: str, **fields: object) -> ScoreRequest:
    return ScoreRequest.model_validate({"groups": [group("q", *candidates)], **fields})


def raw(*texts: str, model: str = "default") -> RawRequest:
    return RawRequest(tuple(RawInput(text=text) for text in texts), model=model)


async def test_the_receipt_tells_the_model_and_the_time_by_phase(setup: Setup) -> None:
    bound = setup.bound()
    response = await bound.score(asking("Rest.", model="production"))
    assert response.model == "production"
    assert bound.receipt.model == "default"
    assert bound.receipt.fingerprint == response.fingerprint == setup.scorer.info.fingerprint
    assert list(bound.receipt.phases) == ["render", "wait", "forward", "other"]
    assert bound.receipt.phases["forward"] == 1.0


async def test_what_is_refused_before_it_is_scored_asks_no_scorer(setup: Setup) -> None:
    refused = {
        UnknownModel: asking("Rest.", model="other"),
        FingerprintMismatch: asking("Rest.", expected_fingerprint="feed"),
        LimitExceeded: asking("a", "b", "c"),
    }
    for error, request in refused.items():
        with pytest.raises(error):
            await setup.bound().score(request)
    assert setup.scorer.calls == []


async def test_an_alias_is_pinned_to_the_model_behind_it(setup: Setup) -> None:
    pinned = asking("Rest.", model="production", expected_fingerprint=setup.scorer.info.fingerprint)
    await setup.bound().score(pinned)
    assert len(setup.scorer.calls) == 1


async def test_milliseconds_become_a_moment_from_arrival(setup: Setup) -> None:
    before = time.monotonic()
    await setup.bound().score(asking("Rest.", deadline_ms=5_000))
    await setup.bound().score(asking("Rest."))
    (_, timed), (_, untimed) = setup.scorer.calls
    assert before + 5 <= timed.deadline <= time.monotonic() + 5
    assert untimed.deadline == math.inf


async def test_the_model_is_kept_open_for_as_long_as_a_request_runs(setup: Setup) -> None:
    setup.scorer.gate.clear()
    scoring = asyncio.create_task(setup.bound().score(asking("Rest.")))
    await setup.scorer.entered.wait()
    closing = asyncio.create_task(setup.served.aclose())
    await asyncio.sleep(0)
    assert setup.scorer.is_open
    setup.scorer.gate.set()
    await scoring
    await closing
    assert not setup.scorer.is_open


# Raw inputs


async def test_raw_inputs_are_scored_charged_and_counted(setup: Setup) -> None:
    bound = setup.bound(SLOW)
    scored = await bound.score_raw(raw("Rest.", "Steam."))
    assert [result.reward for result in scored.results] == [5.0, 6.0]
    assert bound.receipt.fingerprint == setup.scorer.info.fingerprint
    assert setup.metric("reward_server_candidates_total 2.0")
    await setup.bound(SLOW).score_raw(raw("x" * 26))  # 13 tokens were taken, 27 are left
    with pytest.raises(QuotaExceeded):
        await setup.bound(SLOW).score_raw(raw("x"))


async def test_raw_inputs_need_a_kind_that_reads_them() -> None:
    setup = Setup(FakeScorer())
    with pytest.raises(UnsupportedInput, match="of kind sequence_classification, which needs a"):
        await setup.bound().score_raw(raw("Rest."))


async def test_raw_inputs_have_the_limit_of_one_group(setup: Setup) -> None:
    with pytest.raises(LimitExceeded, match="inputs: 3, limit 2"):
        await setup.bound().score_raw(raw("a", "b", "c"))
    with pytest.raises(UnknownModel):
        await setup.bound().score_raw(raw("a", model="other"))


# Quotas


async def test_a_request_that_ends_without_rewards_is_not_charged(setup: Setup) -> None:
    setup.scorer.gate.clear()
    scoring = asyncio.create_task(setup.bound(SLOW).score(asking("x" * 39)))
    await setup.scorer.entered.wait()
    with pytest.raises(QuotaExceeded):
        await setup.bound(SLOW).score(asking("x"))
    scoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scoring
    setup.scorer.gate.set()
    await setup.bound(SLOW).score(asking("x" * 39))


def test_members_of_an_ensemble_are_charged_together() -> None:
    quotas = Quotas(clock=lambda: 0.0)
    charge = Charge(quotas, SLOW)
    with charge:
        charge.take(10)
        charge.take(20)
    quotas.take(SLOW, 10)
    with pytest.raises(QuotaExceeded):
        quotas.take(SLOW, 1)


def test_what_one_member_took_is_given_back_when_another_is_refused() -> None:
    quotas = Quotas(clock=lambda: 0.0)
    charge = Charge(quotas, SLOW)

    def ask() -> None:
        with charge:
            charge.take(30)
            charge.take(30)

    with pytest.raises(QuotaExceeded):
        ask()
    quotas.take(SLOW, 40)


# Limits and views


@pytest.mark.parametrize(
    ("groups", "candidates", "message"),
    [
        (2, 2, None),
        (3, 1, "groups: 3, limit 2; split the request"),
        (1, 3, "group 'q0': 3 candidates, limit 2; split the group"),
    ],
)
def test_a_request_is_held_against_the_limits(
    setup: Setup, groups: int, candidates: int, message: str | None
) -> None:
    given = [group(f"q{index}", *"abc"[:candidates]) for index in range(groups)]
    if message is None:
        check_limits(given, setup.service.config)
        return
    with pytest.raises(LimitExceeded, match=message):
        check_limits(given, setup.service.config)


def test_a_view_stands_beside_the_reward_and_feeds_the_drift_monitor(setup: Setup) -> None:
    made = calibration.fit([0.0, 2.0], [1, 9], fingerprint="f", name="reference", sha256="0" * 64)
    served = setup.served
    served.calibration, served.drift = made, DriftMonitor(made, window=4, least=2)
    result = CandidateResult(reward=1.0, tokens=5)
    viewed = view(served, result)
    assert viewed.reward == 1.0
    assert viewed.calibrated == made.view(1.0)
    failed = CandidateResult(
        reward=None, tokens=5, error=ItemError(code="out_of_memory", detail="no room")
    )
    assert view(served, failed) is failed
    assert served.drift.read().observations == 1


def test_without_a_calibration_a_result_stays_as_it_is(setup: Setup) -> None:
    result = CandidateResult(reward=1.0, tokens=5)
    assert view(setup.served, result) is result


# The audit log


async def test_every_outcome_is_written_down(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl")
    audit.start()
    setup = Setup(FakeRawScorer(), audit)
    await setup.bound().score(asking("Rest.", model="production", lane="bulk"))
    await setup.bound().score_raw(raw("Rest."))
    with pytest.raises(UnknownModel):
        await setup.bound().score(asking("Rest.", model="other"))
    with pytest.raises(UnknownModel):
        await setup.bound().score_raw(raw("Rest.", model="other"))
    with pytest.raises(FingerprintMismatch):
        await setup.bound(SLOW).score(
            asking("Rest.", model="production", expected_fingerprint="feed")
        )
    await audit.aclose()
    text = (tmp_path / "audit.jsonl").read_text()
    lines = [AuditRecord.model_validate_json(line) for line in text.splitlines()]
    assert [line.status for line in lines] == [200, 200, 404, 404, 409]
    # The model that scored by its own name; where none did, the one that was asked for.
    names = ["default", "default", "other", "other", "production"]
    assert [line.model for line in lines] == names
    assert [line.caller for line in lines] == ["anonymous"] * 4 + ["slow"]
    assert [len(line.groups) for line in lines] == [1, 0, 1, 0, 1]
    assert [len(line.inputs) for line in lines] == [0, 1, 0, 1, 0]
    assert (lines[0].lane, lines[0].request_id, lines[0].route) == ("bulk", "r-1", "/v1/score")
