"""What is kept of samples and rewards, and what is made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.best_of_n.rewards import Rewarded, read_rewards, score_all
from benchmarks.best_of_n.samples import About, Drawn, settled
from benchmarks.best_of_n.summary import Evaluation, collect, summarise
from benchmarks.boards import Board, Leaf
from benchmarks.endpoints.base import Description
from benchmarks.errors import ScoresError
from benchmarks.qa.boards import of_sections
from benchmarks.results import kind_of
from corpora.conversation import Conversation
from foundation.journal import Journal
from tests.benchmarks.evaluation.fakes import FakeEndpoint

SILENT = lambda *told: None  # noqa: E731 - shorter than what it says


@dataclass(frozen=True)
class Line:
    number: int
    error: str | None = None


def drawn(
    name: str, texts: Sequence[str], *, section: str = "s", right: Sequence[str] = ("aa",)
) -> Drawn:
    """A question whose right answers are told; the reward of a sample will be its length."""
    return Drawn(
        section,
        name,
        Conversation.ask(name),
        tuple(texts),
        tuple(float(text in right) for text in texts),
        tuple(text[0] for text in texts),
    )


def rewarded(question: Drawn, *rewards: float | None) -> Rewarded:
    errors = tuple("too_long: 9" if reward is None else None for reward in rewards)
    return Rewarded(question.digest, rewards, errors)


def evaluation(
    questions: Sequence[Drawn],
    rewards: Sequence[Rewarded],
    *,
    size: int | None = None,
    has_votes: bool = True,
    greedy: Board | None = None,
) -> Evaluation:
    return Evaluation(
        model="r1",
        about=About("accuracy", size or len(questions), has_votes, {}),
        rewards=Description("rm", "f00d"),
        samples=2,
        seed=0,
        vote_temperature=1.0,
        collected=collect(questions, {each.digest: each for each in rewards}),
        greedy=greedy,
        settings={},
        failures=(),
    )


def score(path: Path, questions: Sequence[Drawn], endpoint: FakeEndpoint) -> str | None:
    with Journal(path, {"model": "fake"}) as journal:
        return asyncio.run(score_all(endpoint, lambda: questions, journal, SILENT))


def test_an_answer_settles_a_question_and_a_failure_only_where_none_follows() -> None:
    lines = [Line(0, "x"), Line(1), Line(2, "y"), Line(0), Line(2, "z")]
    assert list(settled(lines)) == [Line(1), Line(0), Line(2, "z")]


def test_a_digest_is_of_conversation_and_texts_and_nothing_else() -> None:
    one = drawn("q", ["aa", "b"])
    assert one.digest == drawn("q", ["aa", "b"], section="t", right=()).digest
    others = (drawn("p", ["aa", "b"]), drawn("q", ["b", "aa"]), drawn("q", ["aab"]))
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_groups_are_scored_once_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rewards.jsonl"
    twice = drawn("same", ["a", "bb"])
    questions = [drawn("q1", ["aa", "b"]), twice, twice, drawn("q2", ["c", "d"])]
    first = FakeEndpoint(fails_after=1)
    assert score(path, questions, first) == "the server is gone"
    assert list(read_rewards(path)) == [questions[0].digest]

    second = FakeEndpoint()
    assert score(path, questions, second) is None
    assert [group.messages[-1].content for group in second.asked] == ["same", "q2"]
    assert read_rewards(path)[twice.digest].rewards == (1.04, 2.04)

    again = drawn("q1", ["other", "samples"])
    third = FakeEndpoint()
    assert score(path, [again, *questions[1:]], third) is None
    assert [group.id for group in third.asked] == [again.digest]


def test_a_group_with_an_error_is_asked_again_and_the_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "rewards.jsonl"
    question = drawn("q", ["aa", "b"])
    with Journal(path, {"model": "fake"}) as journal:
        journal.append(rewarded(question, 1.0, None).to_json())
    assert read_rewards(path)[question.digest].error == "too_long: 9"
    assert score(path, [question], FakeEndpoint()) is None
    assert read_rewards(path)[question.digest].error is None


def test_a_line_that_is_none_of_rewards_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rewards.jsonl"
    path.write_text('{"digest": "d"}\n')
    with pytest.raises(ScoresError, match=r"rewards.jsonl:1: .*--restart"):
        read_rewards(path)


def test_a_question_without_samples_or_rewards_is_counted_and_never_wrong() -> None:
    fine, unscored, bad = (drawn(name, ["aa", "b"]) for name in ("fine", "unscored", "bad"))
    refused = Drawn("s", "refused", Conversation.ask("?"), error="/v1/chat: 400: too long")
    results = summarise(
        evaluation(
            [fine, unscored, bad, refused],
            [rewarded(fine, 2.0, 1.0), rewarded(bad, 2.0, None)],
            size=5,
        )
    )
    assert results.overall is not None
    assert results.overall.last("reward").score == 1.0
    assert results.overall.questions == 1
    assert (results.counts.scored, results.counts.failed) == (1, 2)
    assert results.counts.errors == {"/v1/chat: 400": 1, "too_long": 1}
    assert results.partial_reasons == (
        "2 questions failed and are in no score; the first: too_long: 9",
        "questions with samples and no rewards: 1",
        "questions not asked: 1",
    )


def test_a_failure_is_named_by_what_others_share_with_it() -> None:
    assert kind_of("/v1/chat/completions: 400: context is 256") == "/v1/chat/completions: 400"
    assert kind_of("candidate_too_long: 300 tokens: limit 256") == "candidate_too_long"


def test_the_overall_curve_is_the_mean_of_sections_as_the_suites_weigh_them() -> None:
    # med_qa: the reward is right once in two questions; anatomy: in its only one. The USMLE steps
    # are no column of the published table, so they stand beside it.
    right, wrong = ("aa", "b"), ("aa", "bbb")
    questions = [
        drawn("1", right, section="step1"),
        drawn("2", right, section="anatomy"),
        drawn("3", right, section="med_qa"),
        drawn("4", wrong, section="med_qa"),
    ]
    lengths = [rewarded(each, *(float(len(text)) for text in each.texts)) for each in questions]
    results = summarise(evaluation(questions, lengths))
    assert list(results.sections) == ["med_qa", "anatomy", "step1"]
    assert results.sections["med_qa"].last("reward").score == 0.5
    assert results.overall is not None
    assert results.overall.last("reward").score == pytest.approx((0.5 + 1) / 2)
    assert results.overall.last("random").score == 0.5
    assert results.overall.reward_minus_random.difference == pytest.approx(0.25)
    assert [point.samples for point in results.overall.curves["reward"]] == [1, 2]


def test_the_difference_is_paired_question_by_question() -> None:
    # Votes tie, so the first sample's answer wins. Both right, only the reward, only the vote.
    questions = [drawn("1", ("aa", "b")), drawn("2", ("b", "aa")), drawn("3", ("aa", "bbb"))] * 4
    questions = [drawn(f"{place}", each.texts) for place, each in enumerate(questions)]
    lengths = [rewarded(each, *(float(len(text)) for text in each.texts)) for each in questions]
    found = summarise(evaluation(questions, lengths)).sections["s"].reward_minus_vote
    assert found is not None
    assert found.difference == pytest.approx((0 + 1 - 1) / 3)
    assert found.ci95[0] < 0 < found.ci95[1]
    assert found.p == 1.0


def test_without_votes_there_are_no_curves_of_votes() -> None:
    question = drawn("q", ["aa", "b"])
    results = summarise(evaluation([question], [rewarded(question, 1, 0)], has_votes=False))
    assert results.overall is not None
    assert list(results.overall.curves) == ["reward", "random", "oracle"]
    assert results.overall.reward_minus_vote is None


def test_greedy_stands_beside_the_overall_curve_only_where_it_is_of_the_same_sections() -> None:
    question = drawn("q", ["aa", "b"], section="med_qa")
    greedy = of_sections({"med_qa": Leaf((1.0, 0.0))}, {})
    rewards = [rewarded(question, 1, 0)]
    results = summarise(evaluation([question], rewards, greedy=greedy))
    assert results.overall is not None
    assert results.overall.greedy is not None
    assert (results.overall.greedy.score, results.overall.greedy.n) == (0.5, 2)
    wider = of_sections({"med_qa": Leaf((1.0, 0.0)), "anatomy": Leaf((1.0,))}, {})
    results = summarise(evaluation([question], rewards, greedy=wider))
    assert results.overall is not None
    assert results.overall.greedy is None
    assert results.sections["med_qa"].greedy is not None


def test_nothing_scored_is_no_score() -> None:
    results = summarise(evaluation([], [], size=3))
    assert (results.overall, results.sections) == (None, {})
    assert results.partial_reasons == ("questions not asked: 3",)
