"""Bulk jobs against a scripted server: their output, durable progress, resuming."""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]  # ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.errors import CorpusError
from foundation.errors import JobError
from foundation.journal import JournalError
from reward_server.bulk import BulkJob, BulkProgress, check_job, score_file
from reward_server.bulk_output import BESIDE
from reward_server.bulk_records import BulkError
from reward_server.client import AsyncRewardClient, ClientOptions
from reward_server.errors import FingerprintMismatch, Overloaded
from reward_server.exchange import RetryPolicy
from reward_server.protocol import (
    Calibrated,
    CandidateResult,
    ItemError,
    ScoreRequest,
)
from tests.reward_server.test_bulk_records import groups, write
from tests.reward_server.test_client import URL, Handler, Server, refuse
from tests.reward_server.test_exchange import respond

OPTIONS = ClientOptions(groups_per_request=3)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(
    source: Path,
    target: Path,
    server: Handler | None = None,
    *,
    on_progress: Callable[[BulkProgress], None] = lambda progress: None,
    options: ClientOptions = OPTIONS,
    **job: Any,
) -> BulkProgress:
    checked = check_job(BulkJob(source, target, **job))

    async def run() -> BulkProgress:
        transport = httpx.MockTransport(server or Server())
        async with AsyncRewardClient(URL, options, transport=transport) as client:
            return await score_file(client, checked, on_progress=on_progress)

    return asyncio.run(run())


def test_every_record_has_its_rewards_in_the_order_of_the_input(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", groups(20))
    end = score(source, target := tmp_path / "out.jsonl")
    assert [record["line"] for record in read(target)] == list(range(1, 21))
    assert read(target)[7] == {
        "line": 8,
        "id": "q7",
        "rewards": [7.0, 4.0],
        "tokens": [8, 5],
        "truncated_tokens": [0, 0],
        "errors": [None, None],
        "fingerprint": "feed",
        "model": "default",
    }
    assert end == BulkProgress(20, 20, 0, "feed", tokens=sum(range(20)) + 20 + 100, errors=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_parquet_comes_and_goes_like_json_lines(tmp_path: Path) -> None:
    records = [{**record, "index": index} for index, record in enumerate(groups(600))]
    rows, lines = tmp_path / "in.parquet", write(tmp_path / "in.jsonl", records)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), rows)
    score(lines, tmp_path / "a.jsonl")
    score(rows, tmp_path / "b.parquet")
    score(rows, tmp_path / "c.jsonl")
    assert (tmp_path / "c.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    table = pyarrow.parquet.read_table(tmp_path / "b.parquet")
    nothing_beside = dict.fromkeys(BESIDE)
    assert table.to_pylist() == [record | nothing_beside for record in read(tmp_path / "a.jsonl")]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_limit_takes_the_first_records(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*groups(5), {"broken": True}])
    target = tmp_path / "out.jsonl"
    assert score(source, target, limit=4).total == 4
    assert [record["id"] for record in read(target)] == ["q0", "q1", "q2", "q3"]


class Killed(Exception):
    """Stands for what nobody can catch."""


def kill_after(count: int) -> Callable[[BulkProgress], None]:
    def check(progress: BulkProgress) -> None:
        if progress.done == count:
            raise Killed

    return check


def asked_for(bodies: list[bytes]) -> list[str]:
    requests = [ScoreRequest.model_validate_json(body) for body in bodies if body]
    return [group.id for request in requests for group in request.groups]


def test_a_killed_job_goes_on_where_it_was(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", groups(20))
    score(source, whole := tmp_path / "whole.jsonl")
    target = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        score(source, target, on_progress=kill_after(7))
    assert not target.exists()
    bodies: list[bytes] = []
    server = Server()

    def record(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return server(request)

    seen: list[int] = []
    end = score(source, target, record, on_progress=lambda progress: seen.append(progress.done))
    assert sorted(asked_for(bodies)) == sorted(f"q{index}" for index in range(7, 20))
    assert seen == list(range(7, 21))
    assert (end.done, end.resumed) == (20, 7)
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input of eight records, its output and the pins of its job."""
    folder = tmp_path_factory.mktemp("finished")
    source = write(folder / "in.jsonl", groups(8))
    with pytest.raises(Killed):
        score(source, folder / "out.jsonl", on_progress=kill_after(1))
    (folder / "pins").write_bytes((folder / "out.jsonl.partial.json").read_bytes())
    score(source, folder / "out.jsonl")
    return folder


@given(data=st.data())
def test_wherever_a_job_was_killed_its_output_is_the_same(
    finished: Path, data: st.DataObject
) -> None:
    whole = (finished / "out.jsonl").read_bytes()
    length = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.jsonl"
        target.with_name("out.jsonl.partial").write_bytes(whole[:length])
        target.with_name("out.jsonl.partial.json").write_bytes((finished / "pins").read_bytes())
        end = score(finished / "in.jsonl", target)
        assert end.resumed == whole[:length].count(b"\n")
        assert target.read_bytes() == whole


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_job_that_was_killed_at_its_very_end_is_finished(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "in.jsonl", groups(4))
    target = tmp_path / f"out{suffix}"
    with pytest.raises(Killed):
        score(source, target, on_progress=kill_after(4))
    assert score(source, target).resumed == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", target.name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"source": groups(9)}, "begun with input '", id="input"),
        pytest.param(
            {"server": Server("beef")}, "fingerprint 'feed', now it is 'beef'", id="model"
        ),
        pytest.param(
            {"options": ClientOptions(on_overflow="truncate")},
            "on_overflow 'error', now it is 'truncate'",
            id="options",
        ),
        pytest.param({"limit": 7}, "limit None, now it is 7", id="limit"),
    ],
)
def test_a_job_does_not_go_on_as_another_one(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    source = write(tmp_path / "in.jsonl", groups(8))
    target = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        score(source, target, on_progress=kill_after(3))
    if records := change.pop("source", None):
        write(source, records)
    with pytest.raises(JournalError) as stop:
        score(source, target, **change)
    assert words in str(stop.value)
    assert str(stop.value).endswith("or begin anew with --restart")
    assert len(read(tmp_path / "out.jsonl.partial")) == 3
    assert score(source, target, restart=True, **change).resumed == 0


def test_other_speeds_are_no_other_job(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(8)), tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        score(source, target, on_progress=kill_after(3))
    options = ClientOptions(groups_per_request=1, concurrency=1, lane="bulk")
    assert score(source, target, options=options, on_error="keep").resumed == 3


def test_an_output_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(2)), tmp_path / "out.jsonl"
    target.write_text("mine\n")
    with pytest.raises(BulkError, match="exists already; name another file or add --restart"):
        score(source, target)
    assert target.read_text() == "mine\n"
    score(source, target, restart=True)
    assert len(read(target)) == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(("in.csv", "out.jsonl"), "IN: .*in.csv: name a file that ends in", id="csv"),
        pytest.param(("in.jsonl", "out.txt"), "OUT: .*out.txt: name a file that", id="txt"),
        pytest.param(("no.jsonl", "out.jsonl"), r"no\.jsonl: no such file", id="no input"),
        pytest.param(("in.jsonl", "no/out.jsonl"), "OUT: .*no folder to write", id="no folder"),
        pytest.param(("in.jsonl", "in.jsonl"), "OUT: .*exists already", id="over itself"),
        pytest.param(("empty.jsonl", "out.jsonl"), "IN: .*no records", id="empty"),
        pytest.param(("bad.jsonl", "out.jsonl"), r"bad\.jsonl:3: messages: missing", id="record"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(
    tmp_path: Path, names: tuple[str, str], words: str
) -> None:
    write(tmp_path / "in.jsonl", groups(2))
    write(tmp_path / "empty.jsonl", [])
    write(tmp_path / "bad.jsonl", [*groups(2), {"candidates": ["Rest."]}])
    before = sorted(tmp_path.iterdir())
    with pytest.raises((BulkError, CorpusError), match=words):
        check_job(BulkJob(tmp_path / names[0], tmp_path / names[1], restart=names[0] == names[1]))
    assert sorted(tmp_path.iterdir()) == before


def too_long_for(*bad: str) -> Handler:
    server = Server()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.content:
            asked = ScoreRequest.model_validate_json(request.content)
            if {group.id for group in asked.groups} & set(bad):
                return refuse("candidate_too_long", 422)
        return server(request)

    return handle


def test_a_refused_group_stops_the_job_at_its_line(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(9)), tmp_path / "out.jsonl"
    with pytest.raises(JobError, match=r"in\.jsonl:6: refused \(candidate_too_long\): what happ"):
        score(source, target, too_long_for("q5"))
    assert [record["id"] for record in read(tmp_path / "out.jsonl.partial")] == [
        f"q{index}" for index in range(5)
    ]
    end = score(source, target, too_long_for("q5"), on_error="keep")
    assert (end.resumed, end.errors) == (5, 2)
    assert read(target)[5] == {
        "line": 6,
        "id": "q5",
        "rewards": [None, None],
        "tokens": [None, None],
        "truncated_tokens": [None, None],
        "errors": ["candidate_too_long: what happened"] * 2,
        "fingerprint": "feed",
        "model": "default",
    }


def giving(*results: CandidateResult) -> Handler:
    """A server that has these results for every group."""
    server = Server()

    def handle(request: httpx.Request) -> httpx.Response:
        if not request.content:
            return server(request)
        response = respond(ScoreRequest.model_validate_json(request.content))
        scored = tuple(each.model_copy(update={"results": results}) for each in response.groups)
        content = response.model_copy(update={"groups": scored}).model_dump_json()
        return httpx.Response(200, content=content)

    return handle


FAILED = CandidateResult(
    reward=None, tokens=3, error=ItemError(code="non_finite_reward", detail="nan")
)


def test_a_candidate_without_a_reward_keeps_its_error(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(1)), tmp_path / "out.jsonl"
    server = giving(CandidateResult(reward=0.5, tokens=1), FAILED)
    assert score(source, target, server).errors == 1
    [record] = read(target)
    assert record["rewards"] == [0.5, None]
    assert record["tokens"] == [1, 3]
    assert record["errors"] == [None, "non_finite_reward: nan"]
    assert not record.keys() & BESIDE


def test_what_stands_beside_a_reward_is_kept_as_on_the_wire(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(1)), tmp_path / "out.jsonl"
    view = Calibrated(artefact="cafe", z_score=-0.5, percentile=30.0, win_probability=0.4)
    full = CandidateResult(
        reward=0.5, tokens=1, parts={"helpful": 0.75}, disagreement=0.25, calibrated=view
    )
    score(source, target, giving(full, FAILED))
    [record] = read(target)
    assert {name: record[name] for name in BESIDE} == {
        "parts": [{"helpful": 0.75}, None],
        "disagreement": [0.25, None],
        "calibrated": [view.model_dump(), None],
    }


def test_what_is_done_when_the_server_fails_is_kept(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(9)), tmp_path / "out.jsonl"
    server = Server()

    def handle(request: httpx.Request) -> httpx.Response:
        return refuse("overloaded", 429) if b'"q5"' in request.content else server(request)

    once = ClientOptions(groups_per_request=1, concurrency=1, retry=RetryPolicy(attempts=1))
    with pytest.raises(Overloaded):
        score(source, target, handle, options=once)
    assert score(source, target).resumed == 5


def test_another_model_than_expected_is_not_begun(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(2)), tmp_path / "out.jsonl"
    with pytest.raises(FingerprintMismatch, match="'beef', served is 'feed'"):
        score(source, target, options=ClientOptions(expected_fingerprint="beef"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_disk_that_is_full_is_one_line_and_what_was_done_is_kept(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", groups(40)), tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(JobError, match=r"cannot be written \(File too large\); make"):
            score(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    partial = (tmp_path / "out.jsonl.partial").read_bytes()
    assert len(partial) == 2_000  # the last line is torn
    assert score(source, target).resumed == partial.count(b"\n")
    assert [record["line"] for record in read(target)] == list(range(1, 41))
