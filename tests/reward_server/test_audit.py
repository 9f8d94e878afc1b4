from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from reward_server import audit
from reward_server.audit import AuditLog, is_sampled
from reward_server.audit_record import AuditRecord, describe
from reward_server.errors import AuditFailed, ServerStartError
from tests.reward_server.test_audit_record import entry

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def auditing(path: Path, **options: Any) -> AsyncIterator[AuditLog]:
    log = AuditLog(path, **options)
    log.start()
    yield log
    await log.aclose()


def read(path: Path) -> list[AuditRecord]:
    return [AuditRecord.model_validate_json(line) for line in path.read_bytes().splitlines()]


@given(request_id=st.text(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_larger_sample_holds_every_smaller_one(request_id: str, rates: list[float]) -> None:
    assert is_sampled(request_id, rates[0]) <= is_sampled(request_id, rates[1])
    assert is_sampled(request_id, 1)
    assert not is_sampled(request_id, 0)


def test_a_sample_has_its_rate() -> None:
    drawn = sum(is_sampled(f"request-{number}", 0.25) for number in range(4_000))
    assert 900 < drawn < 1_100


async def test_closing_writes_everything_that_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with auditing(path) as log:
        for number in range(200):
            await log.record(entry(f"r{number}"))
    assert [record.request_id for record in read(path)] == [f"r{n}" for n in range(200)]
    assert (log.written, log.lost, log.waiting) == (200, 0, 0)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_sampled_log_holds_its_sample(tmp_path: Path) -> None:
    async with auditing(tmp_path / "audit.jsonl", sampling=0.5) as log:
        for number in range(50):
            await log.record(entry(f"r{number}"))
    wanted = [f"r{n}" for n in range(50) if is_sampled(f"r{n}", 0.5)]
    assert [record.request_id for record in read(tmp_path / "audit.jsonl")] == wanted


async def test_a_log_goes_on_where_it_was_and_leaves_half_a_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with auditing(path) as log:
        await log.record(entry("r1"))
    with path.open("ab") as file:
        file.write(b'{"time":"2026')
    async with auditing(path) as log:
        await log.record(entry("r2"))
        await log.record(entry("r3"))
    first, half, *rest = path.read_bytes().splitlines()
    assert half == b'{"time":"2026'
    assert [json.loads(line)["request_id"] for line in (first, *rest)] == ["r1", "r2", "r3"]


async def test_a_full_file_is_followed_by_another_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    line = len(describe(entry(), include_text=False).model_dump_json(exclude_none=True)) + 1
    for half in (range(1, 6), range(6, 9)):
        async with auditing(path, max_bytes=2 * line) as log:
            for number in half:
                await log.record(entry(f"r{number}"))
    names = ["audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl", "audit.jsonl"]
    found = {name: [record.request_id for record in read(tmp_path / name)] for name in names}
    assert list(found.values()) == [["r1", "r2"], ["r3", "r4"], ["r5", "r6"], ["r7", "r8"]]


async def test_a_record_above_the_size_has_a_file_of_its_own(tmp_path: Path) -> None:
    async with auditing(tmp_path / "audit.jsonl", max_bytes=1) as log:
        await log.record(entry("r1"))
        await log.record(entry("r2"))
    assert [record.request_id for record in read(tmp_path / "audit.jsonl")] == ["r2"]
    assert [record.request_id for record in read(tmp_path / "audit.1.jsonl")] == ["r1"]


async def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with auditing(path, required=True) as log:
        await log.record(entry("r1"))
        path.unlink()
        await log.record(entry("r2"))
    assert [record.request_id for record in read(path)] == ["r2"]


async def test_a_disk_that_fails_is_loud_and_scoring_goes_on() -> None:
    with structlog.testing.capture_logs() as logs:
        async with auditing(Path("/dev/full")) as log:
            await log.record(entry("r1"))
            await log.record(entry("r2"))
    lost = [(item["request_id"], item["lost"]) for item in logs if item["event"] != CLOSING]
    assert lost == [("r1", 1), ("r2", 2)]
    assert "No space left on device" in logs[0]["reason"]
    assert {item["log_level"] for item in logs} == {"error"}
    assert (log.written, log.lost, log.waiting) == (0, 2, 0)


CLOSING = "audit.close_failed"


async def test_a_required_audit_that_fails_fails_the_request() -> None:
    log = AuditLog(Path("/dev/full"), required=True)
    log.start()
    with (
        structlog.testing.capture_logs(),
        pytest.raises(AuditFailed, match=r"required here.*No space left"),
    ):
        await log.record(entry())
    with structlog.testing.capture_logs():
        await log.aclose()
    assert log.lost == 1


async def test_a_required_record_is_on_the_disk_when_the_answer_goes_out(tmp_path: Path) -> None:
    async with auditing(tmp_path / "audit.jsonl", required=True) as log:
        await log.record(entry())
        assert len(read(tmp_path / "audit.jsonl")) == 1


async def test_a_half_written_record_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cramped(FileIO):
        """Takes 10 bytes of the first write; then the disk is full, once."""

        rooms: ClassVar[list[int]] = [10, 0]

        def write(self, data: Any) -> int:
            room = self.rooms.pop(0) if self.rooms else len(data)
            if not room:
                raise OSError(28, "No space left on device")
            return super().write(data[:room])

    monkeypatch.setattr("reward_server.audit.FileIO", Cramped)
    path = tmp_path / "audit.jsonl"
    with structlog.testing.capture_logs() as logs:
        async with auditing(path) as log:
            await log.record(entry("r1"))
            await log.record(entry("r2"))
    assert [item["request_id"] for item in logs] == ["r1"]
    half, whole = path.read_bytes().splitlines()
    assert len(half) == 10
    assert json.loads(whole)["request_id"] == "r2"
    assert (log.written, log.lost) == (1, 1)


async def test_a_record_that_cannot_be_made_is_lost_without_its_words(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with auditing(tmp_path / "audit.jsonl") as log:
            await log.record(entry(route=["patient-7"]))
    assert [(item["reason"], item["lost"]) for item in logs] == [("ValidationError", 1)]
    assert "patient-7" not in str(logs)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that writes nothing before the event is set."""
    go = threading.Event()
    append: Callable[..., None] = audit._Appended.append

    def wait_and_append(self: Any, line: bytes, *, sync: bool) -> None:
        assert go.wait(timeout=30)
        append(self, line, sync=sync)

    monkeypatch.setattr(audit._Appended, "append", wait_and_append)
    return go


async def test_a_slow_disk_does_not_hold_up_scoring_and_has_a_bounded_queue(
    tmp_path: Path, hold: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 2)
    with structlog.testing.capture_logs() as logs:
        async with auditing(tmp_path / "audit.jsonl") as log:
            for number in range(3):
                await log.record(entry(f"r{number}"))
            assert (log.waiting, log.lost) == (2, 1)
            hold.set()
    assert [(item["request_id"], item["reason"]) for item in logs] == [
        ("r2", "2 records wait for the disk")
    ]
    assert [record.request_id for record in read(tmp_path / "audit.jsonl")] == ["r0", "r1"]


async def test_a_caller_who_leaves_does_not_take_the_record_along(
    tmp_path: Path, hold: threading.Event
) -> None:
    async with auditing(tmp_path / "audit.jsonl", required=True) as log:
        requests = [asyncio.create_task(log.record(entry(f"r{number}"))) for number in range(2)]
        await asyncio.sleep(0)
        assert log.waiting == 2
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        hold.set()
    assert [record.request_id for record in read(tmp_path / "audit.jsonl")] == ["r0", "r1"]


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match=r"^audit: .*nowhere.*: cannot be written to \("):
        AuditLog(tmp_path / "nowhere" / "audit.jsonl").start()
