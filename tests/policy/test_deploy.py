from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from policy.client import AsyncPolicyClient, SampledGroup, SamplingParameters
from policy.deploy import (
    BFLOAT16,
    FLOAT32,
    Canary,
    Deployer,
    compare,
    read_canaries,
    tolerance_for,
    write_canaries,
)
from policy.errors import DeployRefused, PolicySetupError
from policy.protocol import chat_request
from tests.policy.tiny import RunningPolicy, TrainerView

T = TypeVar("T")

logprobs = st.floats(min_value=-20, max_value=0)
rows = st.lists(st.tuples(logprobs, logprobs), min_size=1, max_size=8)


def canary(adapter: list[float], base: list[float]) -> Canary:
    tokens = tuple(range(len(adapter)))
    return Canary((1, 2), tokens, tuple(adapter), tuple(base))


EXPECTED = canary([-1.0, -2.0], [-1.5, -2.5])


@given(st.lists(rows, min_size=1, max_size=4))
def test_the_trainers_own_numbers_are_verified(groups: list[list[tuple[float, float]]]) -> None:
    canaries = [canary([a for a, _ in row], [b for _, b in row]) for row in groups]
    verification = compare(canaries, [one.logprobs for one in canaries], FLOAT32)
    assert verification.verified
    assert verification.max_abs_difference == verification.distance_from_adapter == 0
    assert verification.tokens == sum(map(len, groups))


@given(rows, st.integers(min_value=0), st.floats(min_value=0.002, max_value=5))
def test_one_token_beyond_the_tolerance_is_enough_to_refuse(
    row: list[tuple[float, float]], place: int, shift: float
) -> None:
    expected = canary([a for a, _ in row], [b for _, b in row])
    served = list(expected.logprobs)
    served[place % len(served)] -= shift
    assert not compare([expected], [served], FLOAT32).verified


@given(st.lists(logprobs, min_size=4, max_size=8), st.floats(min_value=0.025, max_value=0.045))
def test_the_base_is_told_from_an_adapter_within_the_tolerance(
    base: list[float], effect: float
) -> None:
    expected = canary([one - effect for one in base], base)
    verification = compare([expected], [base], BFLOAT16)
    assert verification.max_abs_difference < BFLOAT16.max_abs
    assert not verification.verified


def test_an_adapter_that_changes_nothing_is_not_asked_to_differ_from_the_base() -> None:
    same = canary([-1.0, -2.0], [-1.0, -2.0])
    assert compare([same], [[-1.0, -2.0]], FLOAT32).verified


@pytest.mark.parametrize("served", [[math.nan, -2.0], [-1.0, math.nan], [-math.inf, -2.0]])
def test_what_is_not_a_finite_number_is_refused(served: list[float]) -> None:
    assert not compare([EXPECTED], [served], BFLOAT16).verified


def test_differences_are_per_token_over_all_canaries() -> None:
    verification = compare([EXPECTED, EXPECTED], [[-1.0, -2.0], [-1.1, -2.3]], BFLOAT16)
    assert verification.tokens == 4
    assert verification.max_abs_difference == pytest.approx(0.3)
    assert verification.mean_abs_difference == pytest.approx(0.1)
    assert verification.distance_from_adapter == pytest.approx(math.sqrt(0.1 / 4))
    assert verification.adapter_effect == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("expected", "served"),
    [
        pytest.param([], [], id="no canary"),
        pytest.param([EXPECTED], [], id="canary not scored"),
        pytest.param([EXPECTED], [[-1.0]], id="token not scored"),
    ],
)
def test_nothing_is_proved_by_less_than_every_token(
    expected: list[Canary], served: list[list[float]]
) -> None:
    with pytest.raises(ValueError, match=r"canaries|argument|served"):
        compare(expected, served, FLOAT32)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", FLOAT32), ("bfloat16", BFLOAT16), ("auto", BFLOAT16)]
)
def test_the_tolerance_fits_the_servers_arithmetic(dtype: Any, tolerance: object) -> None:
    assert tolerance_for(dtype) is tolerance


def test_canaries_lie_beside_the_adapter_and_come_back_exactly(tmp_path: Path) -> None:
    canaries = [EXPECTED, canary([-0.1], [-1 / 3])]
    assert write_canaries(tmp_path, canaries) == tmp_path / "canaries.json"
    assert read_canaries(tmp_path) == canaries
    assert [path.name for path in tmp_path.iterdir()] == ["canaries.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param("[", "Invalid JSON", id="malformed"),
        pytest.param("[]", "no canary in it", id="empty"),
        pytest.param('[{"logprobs": []}]', "prompt_token_ids", id="field missing"),
        pytest.param(
            '[{"prompt_token_ids": [1], "response_token_ids": [1], "logprobs": [], '
            '"base_logprobs": []}]',
            "one logprob and one base_logprob per response token",
            id="lengths differ",
        ),
    ],
)
def test_unusable_canaries_are_one_line_with_the_fix(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "canaries.json").write_text(content)
    with pytest.raises(PolicySetupError) as caught:
        read_canaries(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'canaries.json'}: ")
    assert problem in message
    assert message.endswith("train the adapter again")
    assert "\n" not in message


class FakeServer:
    """Serves names, and gives each adapter the logprobs of ``EXPECTED`` or others."""

    def __init__(self, *, served: dict[str, float] | None = None, loads: bool = True) -> None:
        self.served = served or {}
        self.loads = loads
        self.next_difference = 0.0
        self.scores = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        match request.url.path:
            case "/v1/models":
                adapters = [{"id": name, "root": "a", "parent": "base"} for name in self.served]
                return httpx.Response(200, json={"data": [{"id": "base"}, *adapters]})
            case "/v1/load_lora_adapter" if self.loads:
                self.served[body["lora_name"]] = self.next_difference
                return httpx.Response(200)
            case "/v1/unload_lora_adapter":
                del self.served[body["lora_name"]]
                return httpx.Response(200)
            case "/v1/completions" if self.scores:
                return httpx.Response(200, json=self.answer(body["model"]))
        return httpx.Response(400, json={"error": {"message": "rank 64 is above 16"}})

    def answer(self, version: str) -> dict[str, Any]:
        pairs = zip(EXPECTED.response_token_ids, EXPECTED.logprobs, strict=True)
        difference = self.served[version]
        tail = [{str(token): {"logprob": value + difference}} for token, value in pairs]
        return {"choices": [{"prompt_logprobs": [None, {}, *tail]}]}

    def deployer(self) -> Deployer:
        client = AsyncPolicyClient("http://policy.test", transport=httpx.MockTransport(self))
        return Deployer(client, FLOAT32)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_canaries(tmp_path, [EXPECTED])
    return tmp_path


def test_a_proved_version_is_served_beside_the_others(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.0})
    staged = asyncio.run(server.deployer().stage("r2", adapter))
    assert staged.version == "r2"
    assert staged.verification.verified
    assert staged.seconds >= 0
    assert list(server.served) == ["r1", "r2"]


def test_a_version_that_gives_other_logprobs_is_rolled_back(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.0})
    server.next_difference = 0.5
    with pytest.raises(DeployRefused, match=r"r2 does not give the trainer's logprobs: max 0\.5"):
        asyncio.run(server.deployer().stage("r2", adapter))
    assert list(server.served) == ["r1"]


def test_a_version_that_cannot_be_loaded_is_refused(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.0}, loads=False)
    with pytest.raises(DeployRefused, match=r"r2 cannot be served: .*400: rank 64 is above 16"):
        asyncio.run(server.deployer().stage("r2", adapter))
    assert list(server.served) == ["r1"]


def test_a_version_whose_canaries_cannot_be_scored_is_rolled_back(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.0})
    server.scores = False
    with pytest.raises(DeployRefused, match="r2 cannot be served"):
        asyncio.run(server.deployer().stage("r2", adapter))
    assert list(server.served) == ["r1"]


def test_a_served_version_is_verified_and_never_loaded_again(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.0}, loads=False)
    assert asyncio.run(server.deployer().stage("r1", adapter)).verification.verified


def test_a_served_version_with_other_weights_is_refused_and_left_alone(adapter: Path) -> None:
    server = FakeServer(served={"r1": 0.5})
    with pytest.raises(DeployRefused, match="r1 does not give"):
        asyncio.run(server.deployer().stage("r1", adapter))
    assert list(server.served) == ["r1"]


def test_an_adapter_without_canaries_is_not_even_loaded(tmp_path: Path) -> None:
    server = FakeServer()
    with pytest.raises(PolicySetupError, match=r"canaries\.json: no such file"):
        asyncio.run(server.deployer().stage("r1", tmp_path))
    assert not server.served


def test_promotion_leaves_the_version_and_what_is_to_be_kept() -> None:
    server = FakeServer(served={"r1": 0.0, "r2": 0.0, "r3": 0.0})
    asyncio.run(server.deployer().promote("r3", keep=["r1"]))
    assert list(server.served) == ["r1", "r3"]


def test_promotion_of_what_is_not_served_changes_nothing() -> None:
    server = FakeServer(served={"r1": 0.0})
    with pytest.raises(DeployRefused, match="r2 is not served; stage it first"):
        asyncio.run(server.deployer().promote("r2"))
    assert list(server.served) == ["r1"]


def test_withdrawal_needs_no_looking_first() -> None:
    server = FakeServer(served={"r1": 0.0})
    deployer = server.deployer()
    for version in ("r1", "r1", "base"):
        asyncio.run(deployer.withdraw(version))
    assert not server.served


def on_server(url: str, work: Coroutine[Any, Any, T]) -> T:
    """Runs the work and leaves the shared server without adapters, as it was found."""

    async def run() -> T:
        try:
            return await work
        finally:
            async with AsyncPolicyClient(url) as policy:
                await Deployer(policy, FLOAT32).promote("base")

    return asyncio.run(run())


QUESTIONS = [Conversation.ask(f"Question {number}: what helps?") for number in range(8)]
PARAMETERS = SamplingParameters(candidates=4, temperature=1.0, top_p=1.0, max_tokens=120, seed=5)


def sample_all(policy: AsyncPolicyClient, version: str) -> asyncio.Future[list[SampledGroup]]:
    return asyncio.gather(
        *(policy.sample(question, PARAMETERS, version=version) for question in QUESTIONS)
    )


@pytest.mark.integration
def test_the_right_adapter_is_verified_against_transformers_and_peft(
    policy_server: RunningPolicy, trainer: TrainerView
) -> None:
    async def deploy() -> None:
        async with AsyncPolicyClient(policy_server.url) as policy:
            deployer = Deployer(policy, FLOAT32)
            for version, path in policy_server.adapters.items():
                staged = await deployer.stage(version, path)
                assert staged.verification.max_abs_difference < 1e-3
                assert staged.verification.distance_from_base > 0.1
            assert await policy.versions() == ("base", "r1", "r2")

    on_server(policy_server.url, deploy())


@pytest.mark.integration
def test_wrong_weights_are_refused_and_sampling_goes_on_from_the_old_version(
    policy_server: RunningPolicy, trainer: TrainerView, tmp_path: Path
) -> None:
    impostor = tmp_path / "r2"
    shutil.copytree(policy_server.adapters["r1"], impostor)
    write_canaries(impostor, trainer.canaries("r2"))

    async def deploy() -> None:
        async with AsyncPolicyClient(policy_server.url) as policy:
            deployer = Deployer(policy, FLOAT32)
            await deployer.stage("r1", policy_server.adapters["r1"])
            with pytest.raises(DeployRefused, match="r2 does not give the trainer's logprobs"):
                await deployer.stage("r2", impostor)
            assert await policy.versions() == ("base", "r1")
            again = await deployer.stage("r1", policy_server.adapters["r1"])
            assert again.verification.max_abs_difference < 1e-3

    on_server(policy_server.url, deploy())


@pytest.mark.integration
def test_versions_that_share_a_batch_keep_their_own_weights(
    policy_server: RunningPolicy, trainer: TrainerView
) -> None:
    async def deploy() -> None:
        async with AsyncPolicyClient(policy_server.url) as policy:
            deployer = Deployer(policy, FLOAT32)
            for _ in range(3):  # more loads than vLLM has slots for adapters
                await deployer.promote("base")
                for version, path in policy_server.adapters.items():
                    await deployer.stage(version, path)
            running = asyncio.gather(*(sample_all(policy, name) for name in ("base", "r1", "r2")))
            verifications = await asyncio.gather(
                *(deployer.stage(version, path) for version, path in policy_server.adapters.items())
            )
            assert all(staged.verification.verified for staged in verifications)
            for groups in await running:
                for group in groups:
                    adapter = None if group.policy_version == "base" else group.policy_version
                    candidate = group.candidates[0]
                    expected = trainer.logprobs(
                        group.prompt_token_ids, candidate.token_ids, adapter=adapter
                    )
                    assert candidate.logprob == pytest.approx(sum(expected), abs=1e-2)

    on_server(policy_server.url, deploy())


@pytest.mark.integration
def test_an_adapter_that_vllm_cannot_load_is_refused(
    policy_server: RunningPolicy, trainer: TrainerView, tmp_path: Path
) -> None:
    broken = tmp_path / "r1"
    shutil.copytree(policy_server.adapters["r1"], broken)
    (broken / "adapter_model.safetensors").write_bytes(b"nothing")

    async def deploy() -> None:
        async with AsyncPolicyClient(policy_server.url) as policy:
            with pytest.raises(DeployRefused, match="r1 cannot be served"):
                await Deployer(policy, FLOAT32).stage("r1", broken)
            assert await policy.versions() == ("base",)
            assert await policy.ready()

    on_server(policy_server.url, deploy())


class Stream:
    """One long answer of r1, read as it is written, so that it is known to be under way."""

    def __init__(self, url: str, question: Conversation) -> None:
        self._url = f"{url}/v1/chat/completions"
        parameters = replace(PARAMETERS, candidates=1, max_tokens=200)
        body = chat_request(question, parameters, version="r1")
        self._body = body | {"stream": True, "ignore_eos": True, "logprobs": False}
        self.accepted = asyncio.Event()

    async def read(self, http: httpx.AsyncClient) -> str:
        """Why the answer ended."""
        async with http.stream("POST", self._url, json=self._body) as response:
            self.accepted.set()
            events = [line async for line in response.aiter_lines() if line.startswith("data: {")]
        [choice] = json.loads(events[-1].removeprefix("data: "))["choices"]
        return str(choice["finish_reason"])


@pytest.mark.integration
def test_redeploying_in_the_middle_of_sampling_fails_no_request(
    policy_server: RunningPolicy, trainer: TrainerView, record_property: Any
) -> None:
    async def deploy() -> None:
        async with (
            AsyncPolicyClient(policy_server.url, retry_budget_seconds=0) as policy,
            httpx.AsyncClient(trust_env=False, timeout=60) as http,
        ):
            deployer = Deployer(policy, FLOAT32)
            await deployer.stage("r1", policy_server.adapters["r1"])
            early = sample_all(policy, "r1")
            staged = await deployer.stage("r2", policy_server.adapters["r2"])
            more_than_vllm_runs_at_once = QUESTIONS * 12
            streams = [Stream(policy_server.url, each) for each in more_than_vllm_runs_at_once]
            late = [asyncio.create_task(stream.read(http)) for stream in streams]
            await asyncio.gather(*(stream.accepted.wait() for stream in streams))
            assert not all(task.done() for task in late)
            await deployer.promote("r2")
            record_property("running_after_promotion", sum(not task.done() for task in late))
            assert {await task for task in late} == {"length"}
            assert all(len(group.candidates) == PARAMETERS.candidates for group in await early)
            assert policy.failed_requests == 0
            assert await policy.versions() == ("base", "r2")
            record_property("stage_seconds", staged.seconds)

    on_server(policy_server.url, deploy())
