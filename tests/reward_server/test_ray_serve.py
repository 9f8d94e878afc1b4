"""Several processes on Ray Serve: what each of them does, and one deployment from start to stop."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from corpora.conversation import Conversation
from foundation.settings import SettingsError, check
from reward_server.client import RewardClient
from reward_server.errors import DeviceFailed, ServerStartError
from reward_server.exchange import is_worth_retrying, read_problem
from reward_server.keyfile import Key, add_key, digest
from reward_server.protocol import ScoreGroup, ScoreRequest, ScoreResponse
from reward_server.ray_serve import PendingTokens, build
from reward_server.ray_serve.__main__ import main
from reward_server.ray_serve.deployment import bind
from reward_server.ray_serve.launch import _deploy_again, check_room, reason_of
from reward_server.ray_serve.proxy import Front
from reward_server.ray_serve.replica import Replica, own_files
from reward_server.ray_serve.settings import ScaleOutConfig
from tests.reward_server.faults.process import TIMEOUT, Process
from tests.reward_server.tiny import group

RULES = {"default": {"kind": "rules", "rules": [{"rule": "format", "pattern": "[.]$"}]}}


def settings(**given: Any) -> ScaleOutConfig:
    return check(ScaleOutConfig, {"models": RULES, "wires": False, **given}, source="test")


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@asynccontextmanager
async def asking(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A client of what one replica runs."""
    app = replica.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app), client_of(app) as http:
        yield http


def scored(*groups: ScoreGroup) -> dict[str, Any]:
    """The body of a scoring request."""
    return ScoreRequest(groups=groups).model_dump(mode="json")


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """What Serve's proxy does with a request whose replica died."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param(nothing, id="no answer"),
        pytest.param(PlainTextResponse("Internal Server Error", 500), id="a 500 of Serve"),
        pytest.param(PlainTextResponse("Path '/' not found", 404), id="no application"),
    ],
)
async def test_what_no_replica_answered_is_a_problem_that_clients_repeat(proxy: ASGIApp) -> None:
    async with client_of(Front(proxy)) as http:
        answer = await http.post("/v1/score", headers={"x-request-id": "r-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (503, "r-1")
    problem = read_problem(answer)
    assert problem is not None
    assert (problem.code, problem.request_id) == ("no_replica_answered", "r-1")
    assert is_worth_retrying(answer)


@pytest.mark.anyio
async def test_the_answer_of_a_replica_passes_with_one_request_id() -> None:
    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        answer = PlainTextResponse("later", 429, {"x-replica": "a", "retry-after": "7"})
        answer.headers.append("x-request-id", "r-1")
        answer.headers.append("x-request-id", "r-1")
        await answer(scope, receive, send)

    async with client_of(Front(proxy)) as http:
        answer = await http.post("/v1/score")
    assert (answer.status_code, answer.text) == (429, "later")
    assert answer.headers["retry-after"] == "7"
    assert answer.headers.get_list("x-request-id") == ["r-1"]


@pytest.mark.anyio
async def test_serves_own_routes_stay_serves() -> None:
    async with client_of(Front(PlainTextResponse("success"))) as http:
        answer = await http.get("/-/healthz")
    assert (answer.status_code, answer.text) == (200, "success")


@pytest.fixture(autouse=True)
def _no_logging_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica sets up the logging of its process; this process has its own."""
    monkeypatch.setattr("reward_server.ray_serve.replica.configure_logging", lambda: None)


@pytest.mark.anyio
async def test_every_answer_names_its_replica() -> None:
    replica = Replica(settings(), name="one")
    async with asking(replica) as http:
        found = await http.get("/health/ready")
        missing = await http.get("/nowhere")
        await replica.check_health()
    assert (found.status_code, found.headers["x-replica"]) == (200, "one")
    assert (missing.status_code, missing.headers["x-replica"]) == (404, "one")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/admin/models/default"),
        ("DELETE", "/v1/admin/models/default"),
        ("PUT", "/v1/admin/aliases/production"),
        ("GET", "/v1/admin"),
    ],
)
async def test_administration_of_one_replica_is_refused(method: str, path: str) -> None:
    async with asking(Replica(settings(), name="one")) as http:
        answer = await http.request(method, path, json={})
    problem = read_problem(answer)
    assert problem is not None
    assert (answer.status_code, problem.code) == (409, "admin_is_per_process")
    assert problem.detail == (
        f"{path}: would change one replica only; change the settings and deploy again"
    )
    assert problem.request_id == answer.headers["x-request-id"]
    assert not is_worth_retrying(answer)


@pytest.mark.anyio
async def test_who_may_not_administer_is_not_told_more(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = Key(name="loop", sha256=digest("secret"), scopes=("score",), created=date(2026, 1, 1))
    add_key(file, key)
    async with asking(Replica(settings(keys=file), name="one")) as http:
        answer = await http.delete("/v1/admin/models/default")
    assert answer.status_code == 401


class Gated:
    """The engine of a served model, held or broken."""

    def __init__(self, replica: Replica) -> None:
        served = replica._app.state.server.registry.find("default")
        self._engine = served.scorer.pipeline.batcher.engine
        self._forward = self._engine.forward
        self._engine.forward = self
        self.entered, self.gate = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, inputs: Sequence[Any]) -> Any:
        self.entered.set()
        assert self.gate.wait(TIMEOUT)
        if self.error is not None:
            raise self.error
        return self._forward(inputs)


@pytest.mark.anyio
async def test_a_replica_tells_how_many_tokens_wait(model_folder: Path) -> None:
    replica = Replica(ScaleOutConfig(model=str(model_folder), dtype="float32"), name="one")
    async with asking(replica) as http:
        assert await replica.record_autoscaling_stats() == {"pending_tokens": 0}
        await http.post("/v1/score", json=scored(group()))  # after it the warm-up is over
        engine = Gated(replica)
        answer = asyncio.create_task(http.post("/v1/score", json=scored(group("q", "Tea."))))
        assert await asyncio.to_thread(engine.entered.wait, TIMEOUT)
        held = await replica.record_autoscaling_stats()
        engine.gate.set()
        usage = ScoreResponse.model_validate_json((await answer).content).usage
        assert held == {"pending_tokens": usage.computed_tokens}
        assert await replica.record_autoscaling_stats() == {"pending_tokens": 0}


@pytest.mark.anyio
async def test_a_replica_whose_device_died_fails_its_health_check(model_folder: Path) -> None:
    replica = Replica(ScaleOutConfig(model=str(model_folder), dtype="float32"), name="one")
    async with asking(replica) as http:
        await http.post("/v1/score", json=scored(group()))
        await replica.check_health()
        engine = Gated(replica)
        engine.error = RuntimeError("the device is gone")
        engine.gate.set()
        answer = await http.post("/v1/score", json=scored(group("q", "Tea.")))
        assert is_worth_retrying(answer)
        with pytest.raises(DeviceFailed, match="a model does not score"):
            await replica.check_health()


def test_each_replica_writes_an_audit_log_of_its_own() -> None:
    config = own_files(settings(audit="logs/audit.jsonl"), replica="abc")
    assert config.audit == Path("logs/audit-abc.jsonl")
    assert own_files(settings(), replica="abc").audit is None


def context(reported: dict[str, dict[str, float]], *, target_num_replicas: int = 3) -> Any:
    return SimpleNamespace(aggregated_metrics=reported, target_num_replicas=target_num_replicas)


@given(
    waiting=st.lists(st.floats(0, 1e9), min_size=1, max_size=20),
    target=st.integers(1, 10**7),
)
def test_the_wanted_replicas_have_the_target_waiting_at_each(
    waiting: list[float], target: int
) -> None:
    reported = {"pending_tokens": {str(index): tokens for index, tokens in enumerate(waiting)}}
    wanted, state = PendingTokens(target)(context(reported))
    assert wanted * target == pytest.approx(sum(waiting))
    assert state == {}


@pytest.mark.parametrize("reported", [{}, {"pending_tokens": {}}, {"other": {"a": 9.0}}])
def test_without_reports_the_number_stays(reported: dict[str, dict[str, float]]) -> None:
    assert PendingTokens(1000)(context(reported, target_num_replicas=5)) == (5, {})


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"min_replicas": 3}, "max_replicas: 1 is below min_replicas 3; raise it"),
        (
            {"max_pending_tokens": 1000, "target_pending_tokens": 1000},
            "target_pending_tokens: 1000 never waits, since requests are refused at "
            "max_pending_tokens 1000; lower it",
        ),
        ({"min_replicas": 0}, "min_replicas: 0: "),
        ({"replica_cpus": 0}, "replica_cpus: 0: "),
        ({"surge_percent": 101}, "surge_percent: 101: "),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line(
    given_settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**given_settings)
    assert str(caught.value).startswith(f"test: {message}")
    assert "\n" not in str(caught.value)


def test_a_serve_config_file_gives_plain_settings() -> None:
    with pytest.raises(SettingsError, match=r"^arguments: min_replica: unknown key; did you mean"):
        build({"model": "m", "min_replica": "2"})


def test_without_ray_serve_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ServerStartError, match=r"^ray: .*; install ray\[serve\]$"):
        bind(settings())


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        (
            {"min_replicas": 3, "max_replicas": 3},
            "replica_cpus: 1 CPU for each of 3 replicas, this machine has 2; give less of either",
        ),
        (
            {"replica_gpus": 0.5},
            "replica_gpus: 0.5 GPU for each of 1 replicas, this machine has 0; give less of either",
        ),
    ],
)
def test_replicas_without_room_are_refused(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerStartError) as caught:
        check_room(settings(**given_settings), {"CPU": 2.0, "memory": 1e9})
    assert str(caught.value) == message


def test_replicas_with_room_are_not() -> None:
    config = settings(min_replicas=4, max_replicas=9, replica_cpus=0.5, replica_gpus=0.25)
    check_room(config, {"CPU": 2.0, "GPU": 1.0})


def test_a_failed_deployment_gives_the_reason_of_its_replicas() -> None:
    told = """The replica failed to start:
    Traceback (most recent call last):
      File "app.py", line 1
    reward_server.errors.ServerStartError: model: no/such is not a folder; give one
    """
    assert reason_of(["Deploying failed.", told]) == "model: no/such is not a folder; give one"
    assert reason_of(["Deploying failed.\n", "", "No  GPU."]) == "Deploying failed. No  GPU."


def test_settings_that_cannot_be_read_again_leave_what_is_served() -> None:
    def read_again() -> ScaleOutConfig:
        raise SettingsError("server.toml: malformed TOML")

    with capture_logs() as events:
        _deploy_again(read_again)
    assert events == [
        {
            "event": "server.not_redeployed",
            "log_level": "error",
            "reason": "server.toml: malformed TOML",
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "m", "--min-replicas", "0"], "command line: min_replicas: '0': "),
        (["--model", "m", "--host", "0.0.0.0"], "host: '0.0.0.0' lets other machines in"),
        ([], "command line: model: missing; "),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m reward_server.ray_serve: {message}")
    assert printed.count("\n") == 1


def test_help_explains_every_setting_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--target-pending-tokens VALUE Waiting tokens a replica" in printed
    assert "examples: python -m reward_server.ray_serve --model" in printed


needs_serve = pytest.mark.skipif(
    importlib.util.find_spec("grpc_reflection") is None, reason="ray[serve] is not installed"
)


class Watched(httpx.HTTPTransport):
    """Carries requests and tells the answers."""

    def __init__(self, on_answer: Callable[[httpx.Response], None]) -> None:
        super().__init__()
        self._on_answer = on_answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self._on_answer(answer)
        return answer


class Load:
    """Two clients that score all the time, each text once. Leaving it raises what they raised."""

    def __init__(self, url: str) -> None:
        self._transport = Watched(self._answered)
        self._client = RewardClient(url, transport=self._transport)
        self._pool = ThreadPoolExecutor(2)
        self._changed = threading.Condition()
        self._is_over = threading.Event()
        self.replicas: list[str] = []
        """Who gave rewards, answer by answer."""

    def __enter__(self) -> Self:
        self._scoring = [self._pool.submit(self._score, index) for index in range(2)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        with self._client, self._pool:
            for scoring in self._scoring:
                scoring.result()

    def wait_until(self, holds: Callable[[list[str]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.replicas), TIMEOUT), self.replicas

    def _score(self, index: int) -> None:
        turn = 0
        # At a pace, since the same machine has to start replicas meanwhile.
        while not self._is_over.wait(0.05):
            turn += 1
            self._client.score([group("q", f"Rest for {turn} days, {index}.")])

    def _answered(self, answer: httpx.Response) -> None:
        if answer.is_success:
            with self._changed:
                self.replicas.append(answer.headers["x-replica"])
                self._changed.notify_all()


@pytest.fixture(scope="module")
def deployment(model_folder: Path) -> Iterator[Process]:
    """One for all tests, since a start takes long; the last of them ends it."""
    arguments = {
        "--model": str(model_folder),
        "--dtype": "float32",
        "--min-replicas": "2",
        "--max-replicas": "2",
        "--replica-cpus": "0.25",
        "--surge-percent": "100",
        "--max-pending-tokens": "10000000",
    }
    given_arguments = [word for pair in arguments.items() for word in pair]
    with Process(*given_arguments, program=("-m", "reward_server.ray_serve")) as process:
        yield process
        if process.is_running:
            process.terminate()
            process.wait()


@needs_serve
@pytest.mark.integration
def test_all_replicas_answer_with_the_same_rewards(deployment: Process) -> None:
    body = scored(group(), group("q2", "See a doctor."))
    rewards: dict[str, list[float | None]] = {}
    fingerprints = set()
    with httpx.Client(base_url=deployment.url, timeout=TIMEOUT) as http:
        while len(rewards) < 2:
            answer = http.post("/v1/score", json=body)
            scores = ScoreResponse.model_validate_json(answer.content)
            fingerprints.add(scores.fingerprint)
            rewards[answer.headers["x-replica"]] = [
                result.reward for each in scores.groups for result in each.results
            ]
    one, other = rewards.values()
    assert one == pytest.approx(other, abs=1e-5)
    assert len(fingerprints) == 1
    assert deployment.ready["replicas"] == 2


@needs_serve
@pytest.mark.integration
def test_kill_9_of_a_replica_loses_no_request_and_another_one_comes(deployment: Process) -> None:
    with Load(deployment.url) as load:
        load.wait_until(lambda replicas: len(set(replicas)) == 2)
        before = set(load.replicas)
        os.kill(replica_processes(deployment)[0].pid, signal.SIGKILL)
        load.wait_until(lambda replicas: len(set(replicas) - before) == 1)
    assert len(replica_processes(deployment)) == 2


@needs_serve
@pytest.mark.integration
def test_sighup_replaces_the_replicas_without_a_lost_request(deployment: Process) -> None:
    with Load(deployment.url) as load:
        load.wait_until(lambda replicas: len(set(replicas)) == 2)
        before = set(load.replicas)
        deployment.child.send_signal(signal.SIGHUP)
        load.wait_until(lambda replicas: len(set(replicas) - before) == 2)


@needs_serve
@pytest.mark.integration
def test_sigterm_answers_what_was_admitted_and_frees_the_port(deployment: Process) -> None:
    conversation = Conversation.ask("When should I see a doctor about a fever?")
    groups = tuple(
        ScoreGroup.of(str(index), conversation, [f"After {index} or {n} days." for n in range(128)])
        for index in range(64)
    )
    with (
        httpx.Client(base_url=deployment.url, timeout=TIMEOUT) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(http.post, "/v1/score", json=scored(*groups))
        while 'pending_tokens{model="default"} 0.0' in http.get("/metrics").text:
            assert not answer.done(), "too quick to be stopped under load"
        deployment.terminate()
        assert answer.result().status_code == 200
    assert deployment.wait() == 0
    assert deployment.events[-1]["event"] == "server.stopped"
    socket.create_server(("127.0.0.1", deployment.port)).close()


def replica_processes(deployment: Process) -> list[psutil.Process]:
    family = psutil.Process(deployment.child.pid).children(recursive=True)
    return [each for each in family if "ServeReplica" in command_of(each)]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
