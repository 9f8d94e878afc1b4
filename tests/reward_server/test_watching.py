"""What an application keeps an eye on: calibration, drift, canaries, audit, and what logs hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from reward_server import calibration, canary
from reward_server.access import Keyring
from reward_server.app import create_app
from reward_server.audit_record import AuditRecord
from reward_server.config import RewardServerConfig
from reward_server.errors import (
    ServerStartError,
)
from reward_server.protocol import CandidateResult, GroupResult
from tests.reward_server.asking import (
    GROUP,
    MARKER,
    SHORT,
    Client,
    body,
    body_with,
)
from tests.reward_server.tiny import FakeScorer, group

pytestmark = pytest.mark.anyio


# Calibration, drift, canaries


def save_calibration(path: Path, fingerprint: str) -> calibration.Calibration:
    made = calibration.fit(
        [0.0, 10.0], [1, 5], fingerprint=fingerprint, name="two answers", sha256="0" * 64
    )
    made.save(path)
    return made


def save_canary(path: Path, fingerprint: str, *, rewards: tuple[float, float]) -> None:
    groups = [group("canary", "Rest.", "Steam helps.")]
    results = [
        GroupResult(
            id="canary", results=tuple(CandidateResult(reward=r, tokens=1) for r in rewards)
        )
    ]
    canary.make(groups, results, fingerprint).save(path)


async def test_a_calibrated_reward_stands_beside_the_raw_one(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    made = save_calibration(path, scorer.info.fingerprint)
    async with client(calibration=path) as http:
        scored = (await http.post("/v1/score", json=body())).json()
        info = (await http.get("/v1/models/default")).json()
    low, high = scored["groups"][0]["results"]
    assert (low["reward"], high["reward"]) == (5.0, 12.0)
    assert low["calibrated"]["artefact"] == info["calibration"] == made.id
    assert (low["calibrated"]["z_score"], low["calibrated"]["percentile"]) == (0.0, 50.0)
    assert low["calibrated"]["win_probability"] == pytest.approx(0.5)
    assert high["calibrated"]["percentile"] == 100.0


async def test_drift_is_shown_once_there_is_enough_to_tell_from(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    save_calibration(path, scorer.info.fingerprint)
    async with client(
        calibration=path, max_candidates_per_group=300, max_body_bytes=100_000
    ) as http:
        before = (await http.get("/metrics")).text
        await http.post("/v1/score", json=body_with(candidates=["x" * 30] * 300))
        after = (await http.get("/metrics")).text
    assert 'reward_server_drift_reward_psi{model="default"}' not in before
    assert 'reward_server_drift_reference_length_slope{model="default"} 2.5' in before
    assert 'reward_server_drift_reward_ks{model="default"} 1.0' in after
    assert 'reward_server_drift_reward_psi{model="default"}' in after


async def test_canaries_are_looked_at_and_forgotten_with_their_model(
    client: Client, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "canary.json"
    save_canary(path, scorer.info.fingerprint, rewards=(5.0, 11.5))
    async with client(canary=path) as http:
        await scorer.entered.wait()  # the first look comes at once
        await http.post("/v1/score", json=body())  # and has ended when a later request has
        looked = (await http.get("/metrics")).text
        await http.put("/v1/admin/models/default", json=SHORT)
        later = (await http.get("/metrics")).text
    (_, call), _ = scorer.calls
    assert (call.lane, call.uses_cache) == ("bulk", False)
    assert 'reward_server_canary_max_abs_diff{model="default"} 0.5' in looked
    assert 'reward_server_canary_failed{model="default"} 0.0' in looked
    assert "reward_server_canary_max_abs_diff{" not in later
    assert "reward_server_canary_failed{" not in later


@pytest.mark.parametrize("kind", ["calibration", "canary"])
async def test_an_artefact_of_another_model_is_refused_at_the_start(
    config: RewardServerConfig, scorer: FakeScorer, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "artefact.json"
    if kind == "calibration":
        save_calibration(path, "another")
    else:
        save_canary(path, "another", rewards=(5.0, 12.0))
    with pytest.raises(ServerStartError, match=f"{kind}: made for the reward model another"):
        create_app(config.model_copy(update={kind: path}), scorer)


# Audit and logs


def records(path: Path) -> list[AuditRecord]:
    return [AuditRecord.model_validate_json(line) for line in path.read_text().splitlines()]


async def test_every_scoring_request_leaves_a_line(
    client: Client, keyring: Keyring, scorer: FakeScorer, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    sent = [
        body(),
        body(model="production"),
        body(model="other"),
        body(expected_fingerprint="feed"),
    ]
    settings = {"audit": path, "aliases": {"production": "default"}}
    async with client(keyring=keyring, headers={"x-api-key": "scoring"}, **settings) as http:
        answers = [await http.post("/v1/score", json=each) for each in sent]
        await http.post("/v1/score", json={})
        await http.get("/v1/models")
    lines = records(path)
    assert [line.request_id for line in lines] == [each.headers["x-request-id"] for each in answers]
    assert [line.status for line in lines] == [200, 200, 404, 409]
    assert [line.code for line in lines] == [None, None, "unknown_model", "fingerprint_mismatch"]
    assert [line.model for line in lines] == ["default", "default", "other", "default"]
    served = scorer.info.fingerprint
    assert [line.fingerprint for line in lines] == [served, served, None, served]
    assert {line.caller for line in lines} == {"scoring"}
    assert {line.route for line in lines} == {"/v1/score"}
    assert [item.reward for item in lines[0].groups[0].candidates] == [5.0, 12.0]


@pytest.mark.parametrize("include_text", [False, True])
async def test_the_audit_log_holds_text_only_if_told_to(
    client: Client, tmp_path: Path, include_text: bool
) -> None:
    path = tmp_path / "audit.jsonl"
    async with client(audit=path, audit_text=include_text) as http:
        await http.post("/v1/score", json=body_with(candidates=[f"{MARKER} tea"]))
    assert (MARKER in path.read_text()) is include_text


async def test_a_request_that_must_be_logged_and_cannot_gets_no_rewards(
    client: Client, tmp_path: Path
) -> None:
    async with client(audit=tmp_path / "audit.jsonl", audit_required=True) as http:
        assert (await http.post("/v1/score", json=body())).status_code == 200
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()
        refused = await http.post("/v1/score", json=body())
        metrics = (await http.get("/metrics")).text
    assert (refused.status_code, refused.json()["code"]) == (503, "audit_failed")
    assert "the audit log, which is required here, cannot be written" in refused.json()["detail"]
    assert "groups" not in refused.json()
    assert "reward_server_audit_lost 1.0" in metrics


async def test_an_audit_file_that_cannot_be_written_is_refused_at_the_start(
    config: RewardServerConfig, scorer: FakeScorer, tmp_path: Path
) -> None:
    with pytest.raises(ServerStartError, match=r"audit: .* cannot be written to"):
        create_app(config.model_copy(update={"audit": tmp_path / "no" / "audit.jsonl"}), scorer)


MARKED = {"role": "user", "content": f"Does {MARKER} help?"}
MARKED_BODIES: list[Any] = [
    body_with(messages=[MARKED], candidates=[f"{MARKER}."]),
    body_with(messages=[MARKED], reference=MARKER),
    body_with(messages=MARKER),
    body_with(messages=[{"role": MARKER, "content": MARKER}]),
    body_with(messages=[MARKED, {"role": "assistant", "content": MARKER}]),
    body_with(messages=[MARKED], candidates=[MARKER] * 4),
    body_with(messages=[MARKED], candidates=[[MARKER]]),
    {"groups": [{**GROUP, "candidates": [MARKER]}] * 4},
    body_with(candidates=[MARKER * 1_000]),
    {**body_with(candidates=[MARKER]), "expected_fingerprint": "feed"},
    {**body_with(candidates=[MARKER]), "on_overflow": MARKER},
    MARKER,
]


@pytest.mark.parametrize("model", ["default", "pattern", "both"])
async def test_no_log_problem_or_metric_holds_text_of_a_conversation(
    client: Client, scorer: FakeScorer, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    models = {
        "pattern": {"kind": "rules", "rules": [{"rule": "answer_key"}]},
        "both": {"kind": "ensemble", "members": ["default", "pattern"]},
    }
    async with client(models=models) as http:
        answers = [
            await http.post(
                "/v1/score", json=sent | {"model": model} if type(sent) is dict else sent
            )
            for sent in MARKED_BODIES
        ]
        broken = f'{{"groups": "{MARKER}'.encode()
        answers.append(
            await http.post(
                "/v1/score", content=broken, headers={"content-type": "application/json"}
            )
        )
        scorer.error = RuntimeError(MARKER)
        answers.append(await http.post("/v1/score", json=MARKED_BODIES[0]))
        answers.append(await http.get("/metrics"))
    printed = "".join(capfd.readouterr())
    assert "request.scored" in printed
    assert "request.refused" in printed
    assert MARKER not in printed
    assert [answer.status_code for answer in answers if MARKER in answer.text] == []
    assert {answer.status_code for answer in answers} >= {200, 409, 413, 422, 503}


async def test_a_scored_request_is_logged_with_its_size_and_time(
    http: httpx.AsyncClient,
) -> None:
    with structlog.testing.capture_logs() as logs:
        await http.post("/v1/score", json=body())
        await http.post("/v1/score", json=body_with(messages="stuffy"))
    scored, refused = logs
    assert (scored["event"], refused["event"]) == ("request.scored", "request.refused")
    assert (scored["caller"], scored["groups"], scored["candidates"]) == ("anonymous", 1, 2)
    assert (scored["tokens"], scored["forward"]) == (19, 1.0)
    assert (refused["status"], refused["code"]) == (422, "invalid_request")
