from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from foundation.errors import UserError
from policy.client import (
    AsyncPolicyClient,
    Candidate,
    FinishReason,
    SampledGroup,
    SamplingParameters,
    is_transient,
    retry_delays,
)
from policy.errors import PolicyRequestFailed, PolicyServerUnreachable
from tests.policy.tiny import RunningPolicy, TrainerView

URL = "http://policy.test"
QUESTION = Conversation.ask("What helps a stuffy nose?", system="Be brief.")
PARAMETERS = SamplingParameters(candidates=2, temperature=0.7, top_p=0.9, max_tokens=16, seed=40)

Handler = Callable[[httpx.Request], httpx.Response]


def choice(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": f"answer {index}"},
        "token_ids": [10 + index, 2],
        "logprobs": {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.0}]},
        "finish_reason": "stop",
        **changes,
    }


def chat_answer(*choices: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"prompt_token_ids": [1, 4, 5], "choices": list(choices)})


def refusal(status: int, message: str = "no") -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message}})


class Server:
    """Gives its answers in turn, the last one for ever; an exception is raised instead."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pauses(list[float]):
    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(
    server: Server, pauses: Pauses | None = None, *, budget: float = 10
) -> AsyncPolicyClient:
    return AsyncPolicyClient(
        URL,
        transport=httpx.MockTransport(server),
        sleep=pauses if pauses is not None else Pauses(),
        retry_budget_seconds=budget,
    )


def sample(policy: AsyncPolicyClient, parameters: SamplingParameters = PARAMETERS) -> SampledGroup:
    return asyncio.run(policy.sample(QUESTION, parameters, version="r1"))


def test_candidates_come_in_the_order_of_their_seeds_whatever_order_they_were_sent_in() -> None:
    group = sample(client(Server(chat_answer(choice(1, finish_reason="length"), choice(0)))))
    assert group == SampledGroup(
        prompt_token_ids=(1, 4, 5),
        candidates=(
            Candidate("answer 0", (10, 2), FinishReason.STOP, -1.5, 40),
            Candidate("answer 1", (11, 2), FinishReason.LENGTH, -1.5, 41),
        ),
        policy_version="r1",
    )


def test_a_draw_leaves_nothing_to_the_defaults_of_the_model() -> None:
    server = Server(chat_answer(choice(0)))
    sample(client(server))
    assert server.requests[0].url == f"{URL}/v1/chat/completions"
    assert json.loads(server.requests[0].content) == {
        "model": "r1",
        "messages": QUESTION.to_dicts(),
        "n": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 16,
        "seed": 40,
        "logprobs": True,
        "return_token_ids": True,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def test_an_empty_response_is_an_empty_text() -> None:
    message = {"role": "assistant", "content": None}
    group = sample(client(Server(chat_answer(choice(0, message=message, token_ids=[2])))))
    assert group.candidates[0].text == ""


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(httpx.ConnectError("refused"), id="no connection"),
        pytest.param(httpx.ConnectTimeout("slow"), id="no connection in time"),
        pytest.param(httpx.ReadError("reset"), id="broken connection"),
        pytest.param(httpx.RemoteProtocolError("half an answer"), id="server died"),
        pytest.param(httpx.DecodingError("no gzip inside"), id="not what it says it is"),
        pytest.param(refusal(429), id="too busy"),
        pytest.param(refusal(500), id="engine died"),
        pytest.param(refusal(503), id="not ready"),
    ],
)
def test_trouble_that_passes_is_waited_out(trouble: httpx.Response | Exception) -> None:
    pauses = Pauses()
    policy = client(Server(trouble, trouble, chat_answer(choice(0))), pauses)
    assert sample(policy).candidates[0].text == "answer 0"
    assert pauses == [0.25, 0.5]
    assert policy.failed_requests == 0


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_not_repeated(status: int) -> None:
    server = Server(refusal(status, "The model `r1`\ndoes not exist."))
    policy = client(server)
    with pytest.raises(PolicyRequestFailed) as caught:
        sample(policy)
    assert str(caught.value) == (f"/v1/chat/completions: {status}: The model `r1` does not exist.")
    assert caught.value.status == status
    assert len(server.requests) == policy.failed_requests == 1


def test_an_answer_that_takes_too_long_is_not_asked_for_again() -> None:
    server = Server(httpx.ReadTimeout("slow"))
    policy = client(server)
    with pytest.raises(PolicyRequestFailed, match="no answer in time"):
        sample(policy)
    assert len(server.requests) == policy.failed_requests == 1


def test_a_server_that_stays_away_is_named_once_the_budget_is_spent() -> None:
    pauses = Pauses()
    policy = client(Server(httpx.ConnectError("refused")), pauses, budget=5)
    with pytest.raises(PolicyServerUnreachable) as caught:
        sample(policy)
    assert str(caught.value) == (
        "policy server http://policy.test: unreachable (refused); "
        "start one with `medpref serve policy`, or correct the URL"
    )
    assert isinstance(caught.value, UserError)
    assert sum(pauses) <= 5
    assert policy.failed_requests == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, text="<html>"), id="not JSON"),
        pytest.param(httpx.Response(200, json={"choices": []}), id="no token ids"),
        pytest.param(chat_answer(choice(0, finish_reason="bored")), id="unknown finish reason"),
    ],
)
def test_an_answer_in_another_format_is_a_failed_request(answer: httpx.Response) -> None:
    policy = client(Server(answer))
    with pytest.raises(PolicyRequestFailed, match="200: an answer that does not fit"):
        sample(policy)
    assert policy.failed_requests == 1


def test_logprobs_are_those_of_the_response_tokens() -> None:
    scored = [None, *({str(token): {"logprob": -token / 10}} for token in (4, 5, 6, 7))]
    server = Server(httpx.Response(200, json={"choices": [{"prompt_logprobs": scored}]}))
    logprobs = asyncio.run(client(server).token_logprobs([1, 4, 5], [6, 7], version="base"))
    assert logprobs == (-0.6, -0.7)
    body = json.loads(server.requests[0].content)
    assert (body["prompt"], body["prompt_logprobs"]) == ([1, 4, 5, 6, 7], 0)


def test_logprobs_of_other_tokens_are_a_failed_request() -> None:
    scored = [None, {"8": {"logprob": -1.0}}]
    server = Server(httpx.Response(200, json={"choices": [{"prompt_logprobs": scored}]}))
    with pytest.raises(PolicyRequestFailed, match="does not fit"):
        asyncio.run(client(server).token_logprobs([1], [9], version="base"))


@pytest.mark.parametrize(("prompt", "response"), [([], [1]), ([1], [])])
def test_logprobs_need_a_prompt_and_a_response(prompt: list[int], response: list[int]) -> None:
    server = Server(refusal(500))
    with pytest.raises(ValueError, match="neither may be empty"):
        asyncio.run(client(server).token_logprobs(prompt, response, version="base"))
    assert not server.requests


def tokenized(*tokens: int) -> httpx.Response:
    return httpx.Response(200, json={"tokens": list(tokens)})


def continued(**logprobs: float) -> httpx.Response:
    """An answer about the tokens 1, 2 and those that are named: ``t7=-0.5``."""
    tokens = {int(name[1:]): logprob for name, logprob in {"t1": 0.0, **logprobs}.items()}
    scored = [{str(token): {"logprob": logprob}} for token, logprob in tokens.items()]
    answer = {"prompt_token_ids": list(tokens), "prompt_logprobs": [None, *scored[1:]]}
    return httpx.Response(200, json=answer | {"choices": []})


def continue_with(policy: AsyncPolicyClient, *texts: str, lead: str = "") -> Any:
    asked = policy.continuation_logprobs(QUESTION, texts, lead=lead, version="r1")
    return asyncio.run(asked)


def test_continuations_are_scored_from_where_they_begin() -> None:
    answers = [continued(t2=-9, t7=-0.5), continued(t2=-9, t8=-1.5, t9=-2.5)]
    server = Server(tokenized(1, 2), *answers)
    assert continue_with(client(server), "A", "BB", lead="So (") == ((-0.5,), (-1.5, -2.5))
    before, first, second = (json.loads(request.content) for request in server.requests)
    assert [request.url.path for request in server.requests] == [
        "/tokenize",
        *["/v1/chat/completions"] * 2,
    ]
    begun = {"role": "assistant", "content": "So ("}
    assert before == {
        "model": "r1",
        "messages": [*QUESTION.to_dicts(), begun],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }
    assert first == before | {
        "messages": [*QUESTION.to_dicts(), begun | {"content": "So (A"}],
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }
    assert second["messages"][-1]["content"] == "So (BB"


def test_without_a_lead_the_response_begins_where_the_template_lets_it() -> None:
    server = Server(tokenized(1, 2), continued(t2=-9, t7=-0.5))
    continue_with(client(server), "A")
    before = json.loads(server.requests[0].content)
    assert before["messages"] == QUESTION.to_dicts()
    assert (before["add_generation_prompt"], before["continue_final_message"]) == (True, False)


def test_a_token_across_the_border_counts_for_every_continuation() -> None:
    """The first text makes another token of the lead's end: both are scored from there."""
    server = Server(tokenized(1, 2, 3), continued(t2=-1, t30=-2), continued(t2=-1, t3=-4, t5=-8))
    assert continue_with(client(server), "A", "B") == ((-2,), (-4, -8))


def test_continuations_without_logprobs_are_a_failed_request() -> None:
    answer = {"prompt_token_ids": [1, 2], "prompt_logprobs": [None, {"3": {"logprob": -1.0}}]}
    policy = client(Server(tokenized(1), httpx.Response(200, json=answer)))
    with pytest.raises(PolicyRequestFailed, match="does not fit"):
        continue_with(policy, "A")
    assert policy.failed_requests == 1


def test_what_changes_the_served_set_is_sent_once() -> None:
    server = Server(refusal(500, "out of memory"))
    policy = client(server)
    with pytest.raises(PolicyRequestFailed, match="500: out of memory"):
        asyncio.run(policy.load_adapter("r1", Path("adapters/r1")))
    with pytest.raises(PolicyRequestFailed):
        asyncio.run(policy.unload_adapter("r1"))
    assert len(server.requests) == 2
    assert policy.failed_requests == 0
    load, unload = (json.loads(request.content) for request in server.requests)
    assert load == {"lora_name": "r1", "lora_path": str(Path("adapters/r1").absolute())}
    assert unload == {"lora_name": "r1"}


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(
            [{"id": "base", "root": "m", "parent": None, "max_model_len": 256}], id="as itself"
        ),
        pytest.param(
            [
                {"id": "bare", "root": "m", "max_model_len": 256},
                {"id": "base", "root": "i", "parent": "bare"},
            ],
            id="as an adapter",
        ),
    ],
)
def test_versions_are_the_base_and_the_adapters(base: list[dict[str, Any]]) -> None:
    served = [*base, {"id": "r1", "root": "a", "parent": base[0]["id"]}]
    answer = httpx.Response(200, json={"data": served})
    server = Server(httpx.ConnectError("restarting"), answer)
    models = asyncio.run(client(server).models())
    assert models.versions == ("base", "r1")
    assert (models.origin("base"), models.origin("r1")) == ("m", "m a")
    assert models.context_tokens == 256


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(httpx.Response(200), True, id="alive"),
        pytest.param(httpx.Response(503), False, id="engine dead"),
        pytest.param(httpx.ConnectError("refused"), False, id="no server"),
    ],
)
def test_readiness_is_asked_once(answer: httpx.Response | Exception, expected: bool) -> None:
    server = Server(answer)
    assert asyncio.run(client(server).ready()) is expected
    assert len(server.requests) == 1


@given(st.floats(min_value=0, max_value=1e4))
def test_pauses_grow_and_never_exceed_the_budget(budget: float) -> None:
    pauses = list(retry_delays(budget))
    assert pauses == sorted(pauses)
    assert sum(pauses) <= budget
    assert budget - sum(pauses) <= 4 or not pauses


@given(st.integers(min_value=300, max_value=599))
def test_only_429_and_server_errors_are_transient(status: int) -> None:
    error = PolicyRequestFailed("failed", status=status)
    assert is_transient(error) is (status == 429 or status >= 500)


@pytest.mark.parametrize(
    "error",
    [PolicyServerUnreachable(URL, "no server"), PolicyRequestFailed("too busy", status=429)],
)
def test_errors_survive_the_way_out_of_an_actor(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_the_client_imports_neither_torch_nor_vllm_nor_ray() -> None:
    source = (
        "import sys, policy.client, policy.config, policy.deploy, policy.server\n"
        "sys.exit(','.join({'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert finished.stderr.decode() == "\n"


@pytest.mark.integration
def test_equal_seeds_give_equal_candidates_and_child_seeds_count_up(
    policy_server: RunningPolicy,
) -> None:
    async def draw() -> tuple[SampledGroup, SampledGroup, SampledGroup]:
        async with AsyncPolicyClient(policy_server.url) as policy:
            four = SamplingParameters(4, 1.0, 1.0, 24, seed=7)
            one = SamplingParameters(1, 1.0, 1.0, 24, seed=9)
            first = await policy.sample(QUESTION, four, version="base")
            again = await policy.sample(QUESTION, four, version="base")
            return first, again, await policy.sample(QUESTION, one, version="base")

    first, again, single = asyncio.run(draw())
    # Their logprobs may differ in the last digit: the second draw reads the prefix cache.
    assert [c.token_ids for c in first.candidates] == [c.token_ids for c in again.candidates]
    assert [candidate.seed for candidate in first.candidates] == [7, 8, 9, 10]
    assert len({candidate.token_ids for candidate in first.candidates}) == 4
    assert single.candidates[0].token_ids == first.candidates[2].token_ids


@pytest.mark.integration
def test_finish_reasons_tell_a_closed_turn_from_a_cut_one(
    policy_server: RunningPolicy, trainer: TrainerView
) -> None:
    async def draw() -> SampledGroup:
        async with AsyncPolicyClient(policy_server.url) as policy:
            parameters = SamplingParameters(48, 2.0, 1.0, 60, seed=1)
            return await policy.sample(QUESTION, parameters, version="base")

    group = asyncio.run(draw())
    assert group.prompt_token_ids == trainer.prompt_token_ids(QUESTION)
    reasons = {candidate.finish_reason for candidate in group.candidates}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}
    for candidate in group.candidates:
        has_stopped = candidate.finish_reason is FinishReason.STOP
        assert (candidate.token_ids[-1] == trainer.end_of_turn) is has_stopped
        assert has_stopped or len(candidate.token_ids) == 60
        assert "<|end|>" not in candidate.text


@pytest.mark.integration
def test_logprobs_are_those_of_a_float32_forward_before_temperature_and_top_p(
    policy_server: RunningPolicy, trainer: TrainerView
) -> None:
    async def draw() -> tuple[Candidate, tuple[int, ...], tuple[float, ...]]:
        async with AsyncPolicyClient(policy_server.url) as policy:
            parameters = SamplingParameters(1, 0.5, 0.8, 24, seed=3)
            group = await policy.sample(QUESTION, parameters, version="base")
            candidate = group.candidates[0]
            scored = await policy.token_logprobs(
                group.prompt_token_ids, candidate.token_ids, version="base"
            )
            return candidate, group.prompt_token_ids, scored

    candidate, prompt, scored = asyncio.run(draw())
    expected = trainer.logprobs(prompt, candidate.token_ids, adapter=None)
    assert scored == pytest.approx(expected, abs=1e-3)
    assert candidate.logprob == pytest.approx(sum(expected), abs=1e-3)


@pytest.mark.integration
@pytest.mark.parametrize("lead", ["", "The answer is ("])
def test_continuations_are_as_likely_as_in_a_float32_forward(
    policy_server: RunningPolicy, trainer: TrainerView, lead: str
) -> None:
    from transformers import AutoTokenizer

    texts = ["A)", "Saline rinses help.", "x"]

    async def draw() -> tuple[tuple[float, ...], ...]:
        async with AsyncPolicyClient(policy_server.url) as policy:
            return await policy.continuation_logprobs(QUESTION, texts, lead=lead, version="base")

    tokenizer = AutoTokenizer.from_pretrained(policy_server.model)
    before, *full = (
        tokenizer.encode(lead + text, add_special_tokens=False) for text in ("", *texts)
    )
    assert all(ids[: len(before)] == before for ids in full), "no token runs across the border"
    prompt = (*trainer.prompt_token_ids(QUESTION), *before)
    for found, ids in zip(asyncio.run(draw()), full, strict=True):
        expected = trainer.logprobs(prompt, ids[len(before) :], adapter=None)
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.integration
def test_an_unknown_version_is_refused_at_once(policy_server: RunningPolicy) -> None:
    async def draw() -> None:
        async with AsyncPolicyClient(policy_server.url) as policy:
            await policy.sample(QUESTION, PARAMETERS, version="r99")

    with pytest.raises(PolicyRequestFailed, match="404: The model `r99` does not exist"):
        asyncio.run(draw())


@pytest.mark.integration
def test_many_long_seeded_prompts_at_once_do_not_bring_the_server_down(
    policy_server: RunningPolicy,
) -> None:
    """More prompt tokens than one step takes: vLLM's CPU build dies if it may split a prompt."""

    async def draw() -> list[SampledGroup]:
        async with AsyncPolicyClient(policy_server.url, retry_budget_seconds=0) as policy:
            parameters = SamplingParameters(2, 1.0, 1.0, 4, seed=1)
            questions = [Conversation.ask(f"{number}: " + "rest, " * 40) for number in range(40)]
            return await asyncio.gather(
                *(policy.sample(question, parameters, version="base") for question in questions)
            )

    groups = asyncio.run(draw())
    assert sum(len(group.prompt_token_ids) for group in groups) > 4096
    assert all(len(group.candidates) == 2 for group in groups)
