"""Best of N and TRL's reward functions against a scripted server; one real step of GRPO."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from foundation.errors import UserError
from reward_server.client import AsyncRewardClient, ClientOptions, RewardClient
from reward_server.errors import FingerprintMismatch
from reward_server.integrations.best_of_n import (
    Choice,
    NoCandidateScored,
    best_of_n,
    best_of_n_async,
    rank,
    rank_async,
    to_choice,
    to_ranking,
)
from reward_server.integrations.trl import (
    AsyncRemoteReward,
    RemoteReward,
    UnscoredCompletion,
    spread,
    to_batch,
)
from reward_server.protocol import CandidateResult, GroupResult, ItemError, ScoreRequest
from tests.reward_server.test_client import URL, Server

NAN = ItemError(code="non_finite_reward", detail="the reward is nan")
QUESTION = Conversation.ask("What helps a cold?")
FAILS = "fails"


class Rewards(Server):
    """A server that cannot score one text, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[ScoreRequest] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = super().__call__(request)
        if not request.content or not answer.is_success:
            return answer
        self.requests.append(ScoreRequest.model_validate_json(request.content))
        content = json.loads(answer.content)
        for asked, group in zip(self.requests[-1].groups, content["groups"], strict=True):
            for text, result in zip(asked.candidates, group["results"], strict=True):
                if text == FAILS:
                    result.update(reward=None, error=NAN.model_dump())
        return httpx.Response(200, content=json.dumps(content))


def result(*rewards: float | None) -> GroupResult:
    results = [
        CandidateResult(reward=reward, tokens=1, error=None if reward is not None else NAN)
        for reward in rewards
    ]
    return GroupResult(id="g", results=tuple(results))


def choose(*rewards: float | None) -> Choice:
    candidates = [f"candidate {index}" for index in range(len(rewards))]
    return to_choice(to_ranking(candidates, result(*rewards)))


def test_the_best_is_the_one_with_the_highest_reward() -> None:
    assert choose(1.0, 3.0, 2.5) == Choice(1, "candidate 1", 3.0, (1.0, 3.0, 2.5), 0.5, {})


def test_of_equals_the_first_is_the_best() -> None:
    choice = choose(1.0, 2.0, 2.0)
    assert (choice.index, choice.margin) == (1, 0.0)


def test_a_candidate_without_a_reward_is_left_out_and_reported() -> None:
    choice = choose(None, -3.0, -4.0)
    assert (choice.index, choice.rewards, choice.margin) == (1, (None, -3.0, -4.0), 1.0)
    assert choice.errors == {0: NAN}


def test_the_only_one_with_a_reward_has_no_margin() -> None:
    assert choose(None, -3.0).margin is None


def test_no_reward_at_all_is_an_error_by_name() -> None:
    with pytest.raises(NoCandidateScored, match="none of 2 has a reward; the first: non_finite_"):
        choose(None, None)


@given(rewards=st.lists(st.none() | st.floats(-5, 5), min_size=1, max_size=9))
def test_a_ranking_holds_every_reward_once_and_falls(rewards: list[float | None]) -> None:
    if all(reward is None for reward in rewards):
        return
    ranking = to_ranking([str(index) for index in range(len(rewards))], result(*rewards))
    assert sorted([one.index for one in ranking.ranked] + list(ranking.errors)) == list(
        range(len(rewards))
    )
    keys = [(-one.reward, one.index) for one in ranking.ranked]
    assert keys == sorted(keys)
    assert all(rewards[one.index] == one.reward for one in ranking.ranked)


def test_both_clients_choose_the_same() -> None:
    candidates = ["Tea.", FAILS, "Rest and drink.", "Sleep."]
    transport = httpx.MockTransport(Rewards())
    with RewardClient(URL, transport=transport) as client:
        choice = best_of_n(client, QUESTION, candidates)
        ranking = rank(client, QUESTION, candidates)

    async def run() -> tuple[Any, Any]:
        async with AsyncRewardClient(URL, transport=transport) as client:
            return (
                await best_of_n_async(client, QUESTION, candidates),
                await rank_async(client, QUESTION, candidates),
            )

    assert choice.candidate == "Rest and drink."
    assert [one.candidate for one in ranking.ranked] == ["Rest and drink.", "Sleep.", "Tea."]
    assert asyncio.run(run()) == (choice, ranking)


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """One call of one reward function or the other."""

    def blocking(server: Rewards, *given: Any, columns: Any = (), **options: Any) -> Any:
        reward = RemoteReward(URL, transport=httpx.MockTransport(server), **options)
        return reward(prompts=given[0], completions=given[1], **dict(columns))

    def asynchronous(server: Rewards, *given: Any, columns: Any = (), **options: Any) -> Any:
        reward = AsyncRemoteReward(URL, transport=httpx.MockTransport(server), **options)
        return asyncio.run(reward(prompts=given[0], completions=given[1], **dict(columns)))

    return blocking if request.param == "blocking" else asynchronous


def test_rewards_come_back_in_the_order_of_the_completions(ask: Callable[..., Any]) -> None:
    server = Rewards()
    prompts = ["a?", "b?", "a?", "b?"]  # Online DPO has all prompts once, then all again
    assert ask(server, prompts, ["x", "xx", "xxx", "xxxx"]) == [1.0, 2.0, 3.0, 4.0]
    [request] = server.requests
    assert [group.candidates for group in request.groups] == [("x", "xxx"), ("xx", "xxxx")]


def test_messages_are_scored_as_the_conversation_that_they_are(ask: Callable[..., Any]) -> None:
    server = Rewards()
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a?"}]
    assert ask(server, [prompt, prompt], [says("x"), says("xx")]) == [1.0, 2.0]
    [group] = server.requests[0].groups
    assert [message.model_dump() for message in group.messages] == prompt


def test_what_else_a_trainer_hands_over_is_no_hindrance(ask: Callable[..., Any]) -> None:
    columns = {"completion_ids": [[1]], "trainer_state": object(), "source": ["clinic"]}
    assert ask(Rewards(), ["a?"], ["x"], columns=columns) == [1.0]


def test_known_answers_come_from_their_column(ask: Callable[..., Any]) -> None:
    server = Rewards()
    columns = {"answer": ["A", "A", "B"]}
    ask(server, ["a?", "a?", "a?"], ["x", "y", "z"], columns=columns, reference_column="answer")
    groups = server.requests[0].groups
    assert [(group.reference, group.candidates) for group in groups] == [
        ("A", ("x", "y")),
        ("B", ("z",)),
    ]
    with pytest.raises(UserError, match="reference_column: 'key' is no column"):
        ask(server, ["a?"], ["x"], columns=columns, reference_column="key")


def test_a_completion_without_a_reward_raises(ask: Callable[..., Any]) -> None:
    with pytest.raises(UnscoredCompletion, match=r"completions\[2\]: no reward: non_finite_reward"):
        ask(Rewards(), ["a?", "b?", "a?"], ["x", "y", FAILS])


def test_a_completion_without_a_reward_can_be_none_and_is_counted(ask: Callable[..., Any]) -> None:
    told: dict[str, float] = {}
    columns = {"log_metric": told.__setitem__}
    given = (["a?", "b?", "a?", "b?"], ["x", "y", FAILS, "z"])
    rewards = ask(Rewards(), *given, columns=columns, on_item_error="none", name="clinic")
    assert rewards == [1.0, 1.0, None, 1.0]
    assert told == {"clinic/unscored": 0.25}


@pytest.mark.parametrize(
    ("prompt", "completion", "words"),
    [
        pytest.param([], "x", r"prompts\[0\]: messages: a conversation needs", id="no message"),
        pytest.param(says("a"), "x", r"prompts\[0\]: messages: a conversation ends", id="answered"),
        pytest.param(
            [{"role": "tool", "content": "x"}], "x", r"prompts\[0\]: messages\[0\].role", id="tool"
        ),
        pytest.param("a?", [], r"completions\[0\]: not one message", id="nothing"),
        pytest.param("a?", says("x") * 2, r"completions\[0\]: not one message", id="two"),
        pytest.param(
            "a?", [{"role": "assistant", "content": None}], r"completions\[0\]: not", id="a call"
        ),
        pytest.param("a?", "\ud800", r"prompts\[0\]: .*surrogate", id="surrogate"),
    ],
)
def test_what_cannot_be_scored_is_named(prompt: Any, completion: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        to_batch([prompt], [completion], [None])


@given(names=st.lists(st.sampled_from("abc"), max_size=12))
def test_grouping_loses_and_mixes_up_nothing(names: list[str]) -> None:
    completions = [f"{name}{place}" for place, name in enumerate(names)]
    batch = to_batch([f"{name}?" for name in names], completions, [None] * len(names))
    results = [
        GroupResult(
            id=group.id,
            results=tuple(
                CandidateResult(reward=float(text[1:]), tokens=1) for text in group.candidates
            ),
        )
        for group in batch.groups
    ]
    rewards = spread(batch, results, on_item_error="raise")
    assert rewards == [float(place) for place in range(len(names))]
    assert len(batch.groups) == len(set(names))


def test_the_reward_model_of_the_first_call_must_answer_all_later_ones() -> None:
    server = Rewards()
    reward = RemoteReward(URL, ClientOptions(), transport=httpx.MockTransport(server))
    reward(["a?"], ["x"])
    reward(["a?"], ["x"])
    assert server.asked_for_model == 1
    server.fingerprint = "beef"
    with pytest.raises(FingerprintMismatch):
        reward(["a?"], ["x"])


def test_a_reward_function_survives_pickling_with_its_model() -> None:
    reward = RemoteReward(URL, ClientOptions(expected_fingerprint="feed"), name="clinic")
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.__name__ == "clinic"
    assert vars(copy) == vars(reward)


def test_trl_sees_what_is_to_be_awaited() -> None:
    # The rule of trl.trainer.utils.is_async_callable
    assert not inspect.iscoroutinefunction(RemoteReward(URL).__call__)
    assert inspect.iscoroutinefunction(AsyncRemoteReward(URL).__call__)


class _Handler(BaseHTTPRequestHandler):
    rewards: Rewards

    def do_GET(self) -> None:
        self.reply(httpx.Request("GET", URL + self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.reply(httpx.Request("POST", URL + self.path, content=body))

    def reply(self, request: httpx.Request) -> None:
        answer = self.rewards(request)
        self.send_response(answer.status_code)
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[str, Rewards]]:
    """A server on a local port."""
    rewards = Rewards()
    handler = type("Handler", (_Handler,), {"rewards": rewards})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", rewards
        server.shutdown()
        thread.join()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("kind", [RemoteReward, AsyncRemoteReward])
def test_a_step_of_grpo_is_rewarded_by_the_server(
    served: tuple[str, Rewards], tmp_path: Path, kind: Any
) -> None:
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from tests.reward_server.tiny import make_tokenizer

    url, rewards = served
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(  # type: ignore[no-untyped-call]  # theirs
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    prompts = [[{"role": "user", "content": text}] for text in ("a?", "b?")]
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=kind(url, name="clinic"),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    [request] = rewards.requests
    assert sorted(group.messages[0].content for group in request.groups) == ["a?", "b?"]
    assert [len(group.candidates) for group in request.groups] == [2, 2]
    lengths = [len(text) for group in request.groups for text in group.candidates]
    logged = next(entry for entry in trainer.state.log_history if "rewards/clinic/mean" in entry)
    assert logged["rewards/clinic/mean"] == pytest.approx(sum(lengths) / 4)
