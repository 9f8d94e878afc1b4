"""Rewards of several members as one, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import CandidateTooLong, DeadlineExceeded, Draining, ServerStartError
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Call, Scored, Scorer
from reward_server.scorers.ensemble import EnsembleScorer, combine_candidate
from reward_server.specs import EnsembleSpec

pytestmark = pytest.mark.anyio

FAILED = ItemError(code="judge_failed", detail="unreadable verdict")


class Member:
    """Gives each candidate ``factor`` times its length, in order; may wait, fail or be away."""

    def __init__(self, name: str, factor: float = 1.0, **info: Any) -> None:
        identity = Identity(kind="rules", parameters={"factor": factor})
        self.info = ModelInfo(name=name, fingerprint=f"print-{name}", identity=identity, **info)
        self.is_ready = True
        self.factor = factor
        self.error: BaseException | None = None
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[Call] = []
        self.was_cancelled = False
        self.was_touched = False

    def start(self) -> None:
        self.was_touched = True

    async def aclose(self) -> None:
        self.was_touched = True

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        self.calls.append(call)
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.error:
            raise self.error
        return Scored(
            groups=tuple(
                GroupResult(id=g.id, results=tuple(self.result(text) for text in g.candidates))
                for g in groups
            ),
            usage=Usage(tokens=10, computed_tokens=5, cached_candidates=1),
            padding_tokens=2,
        )

    def result(self, text: str) -> CandidateResult:
        if text == f"not for {self.info.name}":
            return CandidateResult(reward=None, tokens=3, error=FAILED)
        return CandidateResult(reward=self.factor * len(text), tokens=3, truncated_tokens=1)


def make_spec(*names: str, **settings: Any) -> EnsembleSpec:
    return EnsembleSpec.model_validate({"kind": "ensemble", "members": names, **settings})


def make_scorer(*members: Member, **settings: Any) -> EnsembleScorer:
    by_name: Mapping[str, Scorer] = {member.info.name: member for member in members}
    scorer = EnsembleScorer("both", make_spec(*by_name, **settings), by_name)
    scorer.start()
    return scorer


def group(name: str, *candidates: str) -> ScoreGroup:
    question = ChatMessage(role="user", content="Why?")
    return ScoreGroup(id=name, messages=(question,), candidates=candidates)


def given_rewards(**rewards: float) -> dict[str, CandidateResult]:
    return {name: CandidateResult(reward=reward, tokens=1) for name, reward in rewards.items()}


@pytest.mark.parametrize(
    ("settings", "reward", "disagreement"),
    [
        ({}, 4.0, 2.0),
        ({"combine": "min"}, 2.0, 2.0),
        ({"combine": "mean_minus_std"}, 2.0, 2.0),
        ({"combine": "mean_minus_std", "penalty": 0.5}, 3.0, 2.0),
        ({"combine": "mean_minus_std", "penalty": 0}, 4.0, 2.0),
        ({"scales": {"b": 2}}, 2.5, 0.5),
        ({"scales": {"a": 0.5, "b": 3}, "combine": "min"}, 2.0, 1.0),
    ],
)
async def test_a_reward_is_combined_from_those_of_the_members(
    settings: dict[str, Any], reward: float, disagreement: float
) -> None:
    scorer = make_scorer(Member("a", 1.0), Member("b", 3.0), **settings)
    scored = await scorer.score([group("q", "xx")], Call())
    (result,) = scored.groups[0].results
    assert result.reward == pytest.approx(reward)
    assert result.disagreement == pytest.approx(disagreement)
    assert result.parts == {"a": 2.0, "b": 6.0}


async def test_groups_and_candidates_keep_their_order_and_work_is_summed() -> None:
    scorer = make_scorer(Member("a"), Member("b"))
    scored = await scorer.score([group("q", "x", "xxx"), group("r", "xx")], Call())
    assert [answer.id for answer in scored.groups] == ["q", "r"]
    assert [[r.reward for r in answer.results] for answer in scored.groups] == [[1, 3], [2]]
    assert scored.usage == Usage(tokens=20, computed_tokens=10, cached_candidates=2)
    assert scored.padding_tokens == 4
    first = scored.groups[0].results[0]
    assert (first.tokens, first.truncated_tokens) == (6, 2)


async def test_a_candidate_that_a_member_failed_has_an_error_that_names_it() -> None:
    scorer = make_scorer(Member("a"), Member("b"))
    scored = await scorer.score([group("q", "x", "not for b")], Call())
    good, failed = scored.groups[0].results
    assert good.reward == 1.0
    assert failed.reward is None
    assert failed.parts is None
    assert failed.error == ItemError(
        code="member_failed", detail="member 'b': judge_failed: unreadable verdict"
    )
    assert failed.tokens == 6


@pytest.mark.parametrize(
    "rewards", [{"a": 1.7e308, "b": 1.7e308}, {"a": 1.7e308, "b": -1.7e308}, {"a": 1.0, "b": 9e307}]
)
def test_a_combination_that_overflows_is_an_error(rewards: dict[str, float]) -> None:
    spec = make_spec("a", "b", combine="mean_minus_std", penalty=9, scales={"b": 0.01})
    result = combine_candidate(spec, given_rewards(**rewards))
    assert result.error is not None
    assert result.error.code == "non_finite_reward"


REWARDS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8)


def combined(rewards: Sequence[float], **settings: Any) -> CandidateResult:
    names = [f"m{index}" for index in range(len(rewards))]
    members = given_rewards(**dict(zip(names, rewards, strict=True)))
    return combine_candidate(make_spec(*names, **settings), members)


@given(rewards=REWARDS)
def test_disagreement_is_the_population_standard_deviation(rewards: list[float]) -> None:
    expected = statistics.pstdev(rewards)
    assert combined(rewards).disagreement == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(rewards=REWARDS, order=st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(rewards: list[float], order: Any) -> None:
    shuffled = list(rewards)
    order.shuffle(shuffled)
    for combine in ("mean", "min"):
        assert (
            combined(rewards, combine=combine).reward == combined(shuffled, combine=combine).reward
        )


@given(rewards=REWARDS, penalty=st.floats(0, 10))
def test_caution_never_raises_a_reward(rewards: list[float], penalty: float) -> None:
    mean = combined(rewards).reward
    careful = combined(rewards, combine="mean_minus_std", penalty=penalty).reward
    lowest = combined(rewards, combine="min").reward
    assert mean is not None
    assert careful is not None
    assert lowest is not None
    assert careful <= mean
    assert lowest <= mean or math.isclose(lowest, mean)


async def test_members_are_asked_side_by_side_and_with_the_same_call() -> None:
    members = [Member("a"), Member("b")]
    for member in members:
        member.gate.clear()
    call = Call(lane="bulk", on_overflow="truncate", deadline=123.0)
    scoring = asyncio.create_task(make_scorer(*members).score([group("q", "x")], call))
    await asyncio.gather(*(member.entered.wait() for member in members))
    for member in members:
        member.gate.set()
    await scoring
    assert [member.calls for member in members] == [[call], [call]]


@pytest.mark.parametrize(
    "error", [DeadlineExceeded("too late"), CandidateTooLong("too long"), RuntimeError("a bug")]
)
async def test_what_a_member_raises_goes_on_as_it_is(error: Exception) -> None:
    failing, waiting = Member("a"), Member("b")
    failing.error = error
    waiting.gate.clear()
    with pytest.raises(type(error)) as raised:
        await make_scorer(failing, waiting).score([group("q", "x")], Call())
    assert raised.value is error
    assert waiting.was_cancelled


async def test_a_cancelled_request_cancels_its_members() -> None:
    member = Member("a")
    member.gate.clear()
    scoring = asyncio.create_task(make_scorer(member, Member("b")).score([group("q", "x")], Call()))
    await member.entered.wait()
    scoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scoring
    assert member.was_cancelled


async def test_it_is_ready_when_all_its_members_are() -> None:
    member = Member("a")
    scorer = make_scorer(member, Member("b"))
    readiness = [scorer.is_ready]
    member.is_ready = False
    readiness.append(scorer.is_ready)
    member.is_ready = True
    await scorer.aclose()
    readiness.append(scorer.is_ready)
    assert readiness == [True, False, False]


async def test_closing_waits_for_what_was_admitted_and_leaves_the_members_alone() -> None:
    members = [Member("a"), Member("b")]
    members[0].gate.clear()
    scorer = make_scorer(*members)
    scoring = asyncio.create_task(scorer.score([group("q", "x")], Call()))
    await members[0].entered.wait()
    closing = asyncio.create_task(scorer.aclose())
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await scorer.score([group("q", "x")], Call())
    assert not closing.done()
    members[0].gate.set()
    await closing
    assert (await scoring).groups[0].results[0].reward == 1.0
    assert not any(member.was_touched for member in members)


async def test_its_limits_are_those_of_its_members() -> None:
    def info(*members: Member) -> ModelInfo:
        return make_scorer(*members).info

    first = Member("a", max_length=64, is_deterministic=True)
    assert info(first, Member("b", max_length=32)).max_length == 32
    assert info(first, Member("b")).max_length == 64
    assert not info(first, Member("b")).is_deterministic
    assert info(first, Member("b", is_deterministic=True)).is_deterministic


async def test_the_fingerprint_covers_members_and_how_they_are_combined() -> None:
    def fingerprint(*names: str, **settings: Any) -> str:
        return make_scorer(*map(Member, names), **settings).info.fingerprint

    different = [
        fingerprint("a", "b"),
        fingerprint("a", "c"),
        fingerprint("a", "b", "c"),
        fingerprint("a", "b", combine="min"),
        fingerprint("a", "b", combine="mean_minus_std"),
        fingerprint("a", "b", combine="mean_minus_std", penalty=2),
        fingerprint("a", "b", scales={"a": 2}),
        fingerprint("a", "b", scales={"b": 2}),
    ]
    assert len(set(different)) == len(different)
    same = [
        fingerprint("a", "b"),
        fingerprint("b", "a"),
        fingerprint("a", "b", penalty=2),
        fingerprint("a", "b", scales={"a": 1}),
    ]
    assert set(same) == {different[0]}


async def test_the_identity_names_the_members_fingerprints() -> None:
    info = make_scorer(Member("a"), Member("b"), scales={"b": 2}).info
    assert (info.name, info.identity.kind) == ("both", "ensemble")
    assert info.identity.members == {"a": "print-a", "b": "print-b"}
    assert info.identity.parameters == {"combine": "mean", "scales.a": 1.0, "scales.b": 2.0}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_spec("a", "x"), "^members: 'x' is not served; add it or leave it out$"),
        (lambda: make_spec("a", "a"), "^members: 'a' is named more than once; name it once$"),
        (lambda: make_spec("a", "b", scales={"c": 1}), "^scales: 'c' is not a member; leave it"),
    ],
    ids=["unknown", "twice", "scale"],
)
async def test_names_that_do_not_fit_together_stop_the_start(
    build: Callable[[], EnsembleSpec], message: str
) -> None:
    members: Mapping[str, Scorer] = {name: Member(name) for name in "abc"}
    with pytest.raises(ServerStartError, match=message):
        EnsembleScorer("both", build(), members)
