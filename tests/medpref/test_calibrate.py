"""The command against a small HTTP server on loopback that speaks the protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from corpora.conversation import Conversation
from foundation.errors import UserError
from medpref.commands.calibrate import CANARY_GROUPS, main
from reward_server.calibration import Calibration
from reward_server.canary import Canary
from reward_server.errors import FingerprintMismatch
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)

IN, OUT, CANARY = Path("in.jsonl"), Path("out.json"), Path("canary.json")
ERROR = ItemError(code="non_finite_reward", detail="the logit is nan")


@dataclass
class Rewards:
    """What the server says: a candidate's reward is its length, and "Bad" has none."""

    url: str = ""
    fingerprints: list[str] = field(default_factory=lambda: ["feed"])
    keys: set[str | None] = field(default_factory=set)
    asked: list[ScoreRequest] = field(default_factory=list)

    def answer(self, path: str, body: bytes) -> str:
        if body:
            return self._scores(ScoreRequest.model_validate_json(body)).model_dump_json()
        name = path.rpartition("/")[2]
        identity = Identity(dtype="float32")
        return ModelInfo(name=name, fingerprint="feed", identity=identity).model_dump_json()

    def _scores(self, asked: ScoreRequest) -> ScoreResponse:
        self.asked.append(asked)
        groups = [
            GroupResult(id=group.id, results=tuple(_result(text) for text in group.candidates))
            for group in asked.groups
        ]
        more = len(self.fingerprints) > 1
        return ScoreResponse(
            model=asked.model,
            fingerprint=self.fingerprints.pop(0) if more else self.fingerprints[0],
            groups=tuple(groups),
            usage=Usage(tokens=1, computed_tokens=1),
        )


def _result(text: str) -> CandidateResult:
    if text == "Bad":
        return CandidateResult(reward=None, tokens=9, error=ERROR)
    return CandidateResult(reward=len(text) / 10, tokens=20 + len(text))


def _handler(rewards: Rewards) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            rewards.keys.add(self.headers["authorization"])
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            content = rewards.answer(self.path, body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Rewards]:
    rewards = Rewards()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(rewards)) as http:
        rewards.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield rewards
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def group(number: int, *candidates: str) -> ScoreGroup:
    texts = candidates or ("x" * (number + 1), "y" * (2 * number + 3))
    return ScoreGroup.of(f"q{number}", Conversation.ask("What helps?"), texts)


def write(*groups: ScoreGroup) -> None:
    IN.write_text("\n".join(g.model_dump_json(exclude_none=True) for g in groups) + "\n\n")


def run(server: Rewards, *more: str) -> int:
    return main([str(IN), str(OUT), "--server", server.url, *more])


def test_the_artefact_is_that_of_the_rewards(
    server: Rewards, capsys: pytest.CaptureFixture[str]
) -> None:
    write(group(0, "aaaaa", "aaaaaaaaaa"), group(1, "aaaaaaaaaaaaaaa"))
    assert run(server) == 0
    made = Calibration.load(OUT)
    assert made.fingerprint == "feed"
    assert made.reference.name == "in.jsonl"
    assert made.reference.sha256 == hashlib.sha256(IN.read_bytes()).hexdigest()
    assert made.rewards == (0.5, 1.0, 1.5)
    assert made.lengths == (25, 30, 35)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["event"] == "model.calibrated"
    assert told["calibration"] == made.id
    assert told["rewards"] == 3
    assert told["mean"] == pytest.approx(1.0)
    assert told["standard_deviation"] == pytest.approx(0.5)
    assert told["quantiles"]["50%"] == pytest.approx(1.0)
    assert told["length_correlation"] == pytest.approx(1.0)
    assert not CANARY.exists()


def test_a_large_set_is_scored_in_parts_and_kept_in_order(
    server: Rewards, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = [group(number) for number in range(100)]
    write(*groups)
    assert run(server, "--canary", str(CANARY)) == 0
    assert len(server.asked) > 1
    assert {asked.expected_fingerprint for asked in server.asked} == {"feed"}
    assert Calibration.load(OUT).reference.size == 2 * len(groups)
    kept = Canary.load(CANARY)
    assert kept.fingerprint == "feed"
    assert len(kept.groups) == CANARY_GROUPS
    assert {kept_group.id for kept_group in kept.groups} <= {g.id for g in groups}
    for kept_group, rewards in zip(kept.groups, kept.rewards, strict=True):
        assert rewards == tuple(len(text) / 10 for text in kept_group.candidates)
    assert '"task": "scoring"' in capsys.readouterr().out


def test_candidates_without_a_reward_are_told_and_left_out(
    server: Rewards, capsys: pytest.CaptureFixture[str]
) -> None:
    write(group(0, "Bad", "Good one"), group(1, "Well", "Better"))
    assert run(server, "--canary", str(CANARY), "--canary-tolerance", "0.5") == 0
    assert Calibration.load(OUT).reference.size == 3
    kept = Canary.load(CANARY)
    assert [kept_group.id for kept_group in kept.groups] == ["q1"]
    assert kept.tolerance == 0.5
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [event for event in told if event["event"] == "candidates.failed"]
    assert failed["non_finite_reward"] == 1


def test_the_key_and_the_model_s_name_reach_the_server(
    server: Rewards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARD_KEY", "secret")
    write(group(0), group(1))
    assert run(server, "--model", "medical", "--api-key-env", "REWARD_KEY") == 0
    assert {(asked.model, asked.lane) for asked in server.asked} == {("medical", "bulk")}
    assert server.keys == {"Bearer secret"}


def test_a_model_that_changes_midway_leaves_no_file(server: Rewards) -> None:
    server.fingerprints = ["feed", "beef"]
    write(*[group(number) for number in range(100)])
    with pytest.raises(FingerprintMismatch):
        run(server, "--canary", str(CANARY))
    assert not OUT.exists()
    assert not CANARY.exists()


def take_output() -> None:
    write(group(0))
    OUT.write_text("")


BAD = '{"id": "q", "messages": [{"role": "user", "content": "?"}], "candidates": []}'


@pytest.mark.parametrize(
    ("prepare", "more", "words"),
    [
        pytest.param(lambda: None, [], r"in\.jsonl: no such file", id="no file"),
        pytest.param(lambda: IN.write_text("\n"), [], "holds no group", id="empty"),
        pytest.param(lambda: IN.write_bytes(b"\xff"), [], r"in\.jsonl:1: malformed", id="no text"),
        pytest.param(lambda: IN.write_text("\n{"), [], r"in\.jsonl:2: malformed", id="malformed"),
        pytest.param(lambda: IN.write_text("[]"), [], r"in\.jsonl:1: expected", id="no object"),
        pytest.param(lambda: IN.write_text("{}"), [], ":1: no form that can be", id="no form"),
        pytest.param(lambda: IN.write_text(BAD), [], r":1: candidates: ", id="no candidates"),
        pytest.param(take_output, [], r"out\.json: exists already", id="output is taken"),
        pytest.param(
            lambda: write(group(0)),
            ["--canary", "none/canary.json"],
            "none is no folder to write in",
            id="no folder",
        ),
        pytest.param(
            lambda: write(group(0)), ["--canary", "out.json"], "name another", id="one file twice"
        ),
        pytest.param(
            lambda: write(group(0)), ["--api-key-env", "UNSET_KEY"], "UNSET_KEY", id="no key"
        ),
        pytest.param(
            lambda: write(group(0, "a", "b")), [], "1 distinct among 2", id="equal rewards"
        ),
        pytest.param(
            lambda: write(group(0, "Bad", "a"), group(1, "Bad", "bb")),
            ["--canary", str(CANARY)],
            "canary: there is no group",
            id="no sound group",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    server: Rewards, prepare: Callable[[], object], more: list[str], words: str
) -> None:
    prepare()
    before = sorted(Path.cwd().iterdir())
    with pytest.raises(UserError, match=words) as caught:
        run(server, *more)
    assert "\n" not in str(caught.value)
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much"])
def test_a_tolerance_is_a_number_from_0_up(server: Rewards, value: str) -> None:
    with pytest.raises(UserError, match=f"canary_tolerance: '{value}': Input should be"):
        run(server, f"--canary-tolerance={value}")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "examples:\n  medpref calibrate" in capsys.readouterr().out
