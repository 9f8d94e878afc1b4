from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from foundation.errors import UserError
from medpref.commands.replay import Line, Texts, main
from reward_server.audit_record import (
    AuditedGroup,
    AuditedInput,
    Entry,
    content_hashes,
    describe,
)
from reward_server.client import RewardClient
from reward_server.errors import CandidateTooLong, Overloaded, RewardServerError
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    Problem,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from reward_server.scorer import RawInput, RawRequest, RawScored

KEY = "mp_secret"


def make_group(name: str, *candidates: str) -> ScoreGroup:
    message = ChatMessage(role="user", content=f"question {name}")
    return ScoreGroup(id=name, messages=(message,), candidates=candidates or ("Rest.", "Steam."))


class FakeServer:
    """Reward = length of the candidate + ``shift``; ``nan`` for one that says so."""

    def __init__(self) -> None:
        self.shift = 0.0
        self.fingerprint = "feed"
        self.is_deterministic = True
        self.refused: RewardServerError | None = None
        self.asked: list[ScoreRequest] = []
        self.keys: set[str | None] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.keys.add(request.headers.get("authorization"))
        if request.method == "GET":
            return self.describe(request.url.path.rpartition("/")[2])
        asked = ScoreRequest.model_validate_json(request.content)
        self.asked.append(asked)
        if self.refused and any("refused" in group.id for group in asked.groups):
            return problem(self.refused)
        return httpx.Response(200, content=self.score(asked).model_dump_json())

    def describe(self, name: str) -> httpx.Response:
        if name == "retired":
            return problem(RewardServerError("no such model"), status=404, code="unknown_model")
        info = ModelInfo(
            name=name,
            fingerprint=self.fingerprint,
            identity=Identity(),
            is_deterministic=self.is_deterministic,
        )
        return httpx.Response(200, content=info.model_dump_json())

    def score(self, request: ScoreRequest) -> ScoreResponse:
        return ScoreResponse(
            model=request.model,
            fingerprint=self.fingerprint,
            groups=tuple(
                GroupResult(id=g.id, results=tuple(self.reward(text) for text in g.candidates))
                for g in request.groups
            ),
            usage=Usage(tokens=1, computed_tokens=1),
        )

    def reward(self, text: str) -> CandidateResult:
        if text == "nan":
            error = ItemError(code="non_finite_reward", detail="the model gave nan")
            return CandidateResult(reward=None, tokens=1, error=error)
        return CandidateResult(reward=len(text) + self.shift, tokens=1)


def problem(
    error: RewardServerError, *, status: int | None = None, code: str | None = None
) -> httpx.Response:
    document = Problem(
        type="about:blank",
        title=error.title,
        status=status or error.status,
        detail=str(error),
        code=code or error.code,
        retryable=False,
        request_id="r",
    )
    return httpx.Response(document.status, content=document.model_dump_json())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer()
    client = partial(RewardClient, transport=httpx.MockTransport(server))
    for module in ("replay", "servers"):
        monkeypatch.setattr(f"medpref.commands.{module}.RewardClient", client)
    return server


class Log:
    """An audit log of requests to the fake server as it is when they are added."""

    def __init__(self, path: Path, server: FakeServer) -> None:
        self.path = path
        self._server = server
        self._count = 0

    def add(self, *groups: ScoreGroup, with_text: bool = True, **changes: Any) -> None:
        self._count += 1
        request = ScoreRequest(groups=groups or (make_group("a"),))
        fields: dict[str, Any] = {
            "request_id": f"r{self._count}",
            "caller": "loop",
            "route": "/v1/score",
            "request": request,
            "outcome": self._server.score(request),
            "seconds": 0.1,
            "model": "default",
            "fingerprint": self._server.fingerprint,
        }
        record = describe(Entry(**fields | changes), include_text=with_text)
        with self.path.open("a") as file:
            file.write(record.model_dump_json(exclude_none=True) + "\n")


@pytest.fixture
def log(tmp_path: Path, server: FakeServer) -> Log:
    return Log(tmp_path / "audit.jsonl", server)


Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(log: Log, capsys: pytest.CaptureFixture[str]) -> Run:
    """Replays the log: exit code, the fields of its last event, and all that it wrote."""

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = main([str(log.path), "--server", "http://server:8100", *arguments])
        shown = capsys.readouterr().out
        events = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
        (told,) = [event for event in events if event["event"] == "audit.replayed"]
        return code, told, shown

    return run


def counts(told: dict[str, Any]) -> Sequence[Any]:
    return [told[name] for name in ("compared", "equal", "different", "missing_text", "errors")]


def lines(told: dict[str, Any]) -> Sequence[int]:
    return [told[name] for name in get_args(Line)]


def test_a_log_with_text_is_scored_again_and_found_equal(
    run: Run, log: Log, server: FakeServer
) -> None:
    for number in range(80):
        log.add(make_group(f"g{number}"), make_group(f"h{number}", "nan", "Rest."))
    code, told, shown = run()
    assert code == 0
    assert counts(told) == [320, 320, 0, 0, {}]
    assert lines(told) == [80, 0, 0, 0]
    assert '"is_same": true' in shown
    assert {request.lane for request in server.asked} == {"bulk"}
    assert {request.expected_fingerprint for request in server.asked} == {"feed"}


def test_differences_are_counted_and_the_largest_are_shown(
    run: Run, log: Log, server: FakeServer
) -> None:
    log.add(make_group("a"))
    server.shift = 0.5
    log.add(make_group("b"), make_group("c", "Sleep well."))
    server.shift = 0.25
    code, told, shown = run()
    assert code == 1
    assert counts(told) == [5, 0, 5, 0, {}]
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("r")]
    assert rows[0][0] == "request"
    assert ["r2", "1", "0", "11.5", "11.25", "0.25"] in rows
    assert len(rows) == 6


def test_the_table_is_short_and_begins_with_the_largest(
    run: Run, log: Log, server: FakeServer
) -> None:
    for number in range(20):
        server.shift = number
        log.add(make_group("a", "x"))
    server.shift = 0
    _, told, shown = run()
    assert told["different"] == 19
    sizes = [line.split()[-1] for line in shown.splitlines() if line.strip().startswith("r")]
    assert sizes == ["difference", *(str(n) for n in range(19, 9, -1))]


def test_a_tolerance_is_the_largest_difference_that_is_none(
    run: Run, log: Log, server: FakeServer
) -> None:
    log.add(make_group("a"))
    server.shift = 0.25
    assert run("--tolerance", "0.25")[0] == 0
    assert run("--tolerance", "0.24")[0] == 1


@pytest.mark.parametrize("now", ["nan", "Rest."])
def test_an_error_is_never_close_to_a_reward(
    run: Run, log: Log, server: FakeServer, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.add(make_group("a", "Rest."), make_group("b", "nan"))
    reward = server.reward
    monkeypatch.setattr(server, "reward", lambda text: reward(now))
    code, told, shown = run("--tolerance", "1e9")
    assert (code, told["different"]) == (1, 1)
    assert "non_finite_reward" in shown.splitlines()[-1]


def test_another_model_is_said_and_a_server_that_varies(
    run: Run, log: Log, server: FakeServer
) -> None:
    log.add(make_group("a"))
    server.fingerprint, server.is_deterministic = "beef", False
    code, _, shown = run()
    assert code == 0
    assert '"logged": ["feed"], "served": "beef", "is_same": false' in shown


def test_texts_are_found_by_their_hashes(run: Run, log: Log, tmp_path: Path) -> None:
    log.add(make_group("a", "Rest.", "Steam."), make_group("b", "Sleep."), with_text=False)
    inputs = tmp_path / "groups.jsonl"
    known = [make_group("a", "Steam.", "Water.", "Rest.").model_copy(update={"id": "other"})]
    inputs.write_text("\n".join(group.model_dump_json() for group in known) + "\n\n")
    code, told, _ = run("--inputs", str(inputs))
    assert (code, counts(told)) == (1, [2, 2, 0, 1, {}])
    inputs.write_text("\n".join(g.model_dump_json() for g in (*known, make_group("b", "Sleep."))))
    code, told, _ = run("--inputs", str(inputs))
    assert (code, counts(told)) == (0, [3, 3, 0, 0, {}])


def test_without_any_text_nothing_was_found_equal(run: Run, log: Log) -> None:
    log.add(make_group("a"), with_text=False)
    code, told, _ = run()
    assert (code, counts(told)) == (1, [0, 0, 0, 2, {}])


def test_an_empty_log_proves_nothing(run: Run, log: Log) -> None:
    log.path.write_text("")
    assert run()[0] == 1


def test_text_that_is_not_what_was_scored_is_not_scored() -> None:
    group = make_group("a")
    altered = make_group("a", "Rest!", "Steam.")
    audited = AuditedGroup(
        candidates=tuple(AuditedInput(content=content) for content in content_hashes(group)),
        sent=altered,
    )
    assert Texts().find(audited) is None
    assert Texts([group]).find(audited) == group
    assert Texts([make_group("a", "Rest.")]).find(audited) is None


def test_refused_and_rendered_requests_and_half_lines_are_counted_and_left_out(
    run: Run, log: Log
) -> None:
    log.add(make_group("a"))
    log.add(make_group("b"), outcome=Overloaded("too much"))
    rendered = RawRequest(inputs=(RawInput(text="Rest."),))
    scored = RawScored(
        results=(CandidateResult(reward=5.0, tokens=1),),
        usage=Usage(tokens=1, computed_tokens=1),
        labels=((5.0,),),
    )
    log.add(request=rendered, outcome=scored)
    log.add(request=rendered, outcome=Overloaded("too much"))
    with log.path.open("a") as file:
        file.write('{"time":"2026-06-01T12:00:00Z","request_')
    code, told, _ = run()
    assert code == 0
    assert lines(told) == [1, 2, 1, 1]


def test_a_group_that_is_refused_now_does_not_stop_the_others(
    run: Run, log: Log, server: FakeServer
) -> None:
    log.add(make_group("a"), make_group("refused"), make_group("c"))
    server.refused = CandidateTooLong("too long")
    code, told, _ = run()
    assert (code, counts(told)) == (1, [4, 4, 0, 0, {"candidate_too_long": 2}])


def test_a_server_that_fails_ends_the_replay(run: Run, log: Log, server: FakeServer) -> None:
    log.add(make_group("refused"))
    server.refused = RewardServerError("broken")
    with pytest.raises(RewardServerError, match="broken"):
        run()


def test_every_request_is_scored_as_it_was(run: Run, log: Log, server: FakeServer) -> None:
    cut = ScoreRequest(groups=(make_group("a"),), on_overflow="truncate")
    log.add(make_group("a"), request=cut)
    log.add(make_group("b"), model="second")
    log.add(make_group("c"), model="retired")
    code, told, shown = run()
    assert (code, counts(told)) == (1, [4, 4, 0, 0, {"unknown_model": 2}])
    asked = [(request.model, request.on_overflow) for request in server.asked]
    assert sorted(asked) == [("default", "truncate"), ("second", "error")]
    assert '"model": "retired", "logged": ["feed"], "served": null' in shown


def test_the_key_comes_from_the_environment(
    run: Run, log: Log, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.add(make_group("a"))
    with pytest.raises(UserError, match="--api-key-env: REWARD_KEY is not set"):
        run("--api-key-env", "REWARD_KEY")
    monkeypatch.setenv("REWARD_KEY", KEY)
    assert run("--api-key-env", "REWARD_KEY")[0] == 0
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param('{"event": "server.ready"}', "audit.jsonl:1: time: Field required", id="log"),
        pytest.param("[]", "audit.jsonl:1: record: Input should be an object", id="list"),
    ],
)
def test_a_file_that_is_no_audit_log_is_one_line(
    run: Run, log: Log, content: str, words: str
) -> None:
    log.path.write_text(content)
    with pytest.raises(UserError) as caught:
        run()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_malformed_are_one_line(
    run: Run, log: Log, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"audit.jsonl: cannot be read \(No such file"):
        run()
    log.add(make_group("a"))
    inputs = tmp_path / "groups.jsonl"
    with pytest.raises(UserError, match=r"groups.jsonl: no such file"):
        run("--inputs", str(inputs))
    inputs.write_text('{"id": "a", "messages": [{}], "candidates": []}')
    with pytest.raises(UserError, match=r"groups.jsonl:1: "):
        run("--inputs", str(inputs))


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "small"])
def test_a_tolerance_is_a_number_from_0_up(run: Run, log: Log, tolerance: str) -> None:
    with pytest.raises(UserError, match=f"tolerance: '{tolerance}': Input should be"):
        run(f"--tolerance={tolerance}")


def test_a_replay_needs_no_server_to_be_installed() -> None:
    heavy = {"torch", "fastapi", "structlog", "uvicorn"}
    program = (
        "import sys, medpref.commands.replay, medpref.commands.keys;"
        f"print(*({heavy!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
