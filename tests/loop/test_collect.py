from __future__ import annotations

import asyncio
from typing import cast

from loop.collect import Collector, sample_texts, still_open
from loop.groups import ScoredGroup
from policy.client import AsyncPolicyClient, SamplingParameters
from reward_server.client import AsyncRewardClient
from tests.loop.fakes import FakePolicy, FakeReward, questions

PARAMETERS = SamplingParameters(candidates=2, temperature=1.0, top_p=1.0, max_tokens=8, seed=1)


def collect(
    policy: FakePolicy,
    reward: FakeReward,
    *,
    count: int,
    version: str = "r1",
    window: int = 3,
    has_kl: bool = False,
) -> list[ScoredGroup]:
    collector = Collector(
        policy=cast("AsyncPolicyClient", policy),
        reward=cast("AsyncRewardClient", reward),
        fingerprint="f00d",
        window=window,
    )
    kept: list[ScoredGroup] = []

    async def run() -> None:
        await asyncio.wait_for(
            collector.collect(
                questions(count),
                version=version,
                parameters=PARAMETERS,
                keep=kept.append,
                has_kl=has_kl,
            ),
            timeout=10,
        )

    asyncio.run(run())
    return kept


def test_every_question_is_kept_once_with_its_lineage() -> None:
    kept = collect(FakePolicy(), FakeReward(), count=20)
    assert sorted(group.question_id for group in kept) == sorted(q.id for q in questions(20))
    assert {(group.policy_version, group.fingerprint) for group in kept} == {("r1", "f00d")}
    assert all(group.rewards == [0.0, 1.0] for group in kept)


def test_no_more_questions_than_the_window_are_on_the_way() -> None:
    policy = FakePolicy()
    collect(policy, FakeReward(), count=20, window=3)
    assert policy.most_in_flight == 3


def test_a_group_is_scored_while_others_are_still_sampled() -> None:
    scored = asyncio.Event()
    # The second question is not answered before the first one has its rewards: with a barrier
    # between sampling and scoring this would never end.
    policy = FakePolicy(hold={"question 1?": scored})
    kept = collect(policy, FakeReward(scored={"q0": scored}), count=2)
    assert [group.question_id for group in kept] == ["q0", "q1"]


def test_a_question_that_cannot_be_sampled_is_kept_with_its_error() -> None:
    kept = collect(FakePolicy(failing=frozenset(["question 1?"])), FakeReward(), count=3)
    failed = {group.question_id: group.error for group in kept if group.has_error}
    assert list(failed) == ["q1"]
    assert "too long" in (failed["q1"] or "")


def test_a_group_that_the_reward_server_refuses_does_not_end_the_run() -> None:
    kept = collect(FakePolicy(), FakeReward(refused="q1"), count=3)
    failed = {group.question_id: group.failure for group in kept if group.has_error}
    assert failed == {"q1": "group 'q1', candidate 0: 600 tokens, limit 512"}


def test_a_failed_score_is_an_error_and_never_a_number() -> None:
    [group] = collect(FakePolicy(), FakeReward(broken="q0"), count=1)
    assert group.has_error
    assert group.candidates[1].reward is None
    assert group.candidates[1].error == "the reward is not a finite number"


def test_two_policies_answer_a_question_with_the_same_seed_of_its_own() -> None:
    policy = FakePolicy()
    for version in ("base", "r1"):
        collect(policy, FakeReward(), count=5, version=version)
    seeds = [{policy.seeds[v, f"question {i}?"] for v in ("base", "r1")} for i in range(5)]
    assert all(len(of_question) == 1 for of_question in seeds)
    assert len(set.union(*seeds)) == 5


def test_the_base_is_asked_for_log_probabilities_where_kl_is_wanted() -> None:
    [group] = collect(FakePolicy(), FakeReward(), count=1, has_kl=True)
    assert [c.base_logprob for c in group.candidates] == [-6.0, -6.0]
    [group] = collect(FakePolicy(), FakeReward(), count=1)
    assert [c.base_logprob for c in group.candidates] == [None, None]


def test_texts_can_be_sampled_without_scores() -> None:
    policy = cast("AsyncPolicyClient", FakePolicy())
    texts = asyncio.run(sample_texts(policy, questions(2), parameters=PARAMETERS, window=1))
    assert texts == {
        "q0": ["question 0? 0", "question 0? 1"],
        "q1": ["question 1? 0", "question 1? 1"],
    }


def test_answered_questions_are_not_asked_again() -> None:
    assert [q.id for q in still_open(questions(3), {"q1"})] == ["q0", "q2"]
