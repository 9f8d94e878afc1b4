"""A judge in the place of a reward model: what it is asked, and what its words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx
import pytest

from benchmarks.chat import ChatClient
from benchmarks.evaluation.judging import UNREADABLE, Judge, judge, read_choice, read_rating
from benchmarks.evaluation.views import ask
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import ScoredGroup
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup

CANDIDATES = ("Rest well.", "Gold.", "Silver.", "Tin.")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A is short, B is right. [[B]]", 1),
        ("[[a]]", 0),
        ("First I thought [[A]], but [[C]]", 2),
        ("Verdict: D", 3),
        ("My verdict: answer B", 1),
        ("[[B]] is my verdict: a better answer.", 1),
        ("My verdict: a tie.", None),
        ("[[E]]", None),
        ("They are equal.", None),
        ("", None),
    ],
)
def test_a_pick_is_the_last_letter_that_is_stated(text: str, place: int | None) -> None:
    assert read_choice(text, among=4) == place


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Sound. [[7]]", 7.0),
        ("[[ 7.5 ]]", 7.5),
        ("At first [[9]]; no: [[2]]", 2.0),
        ("Rating: 10", 10.0),
        ("Rating: 1-10, I say [[3]]", 3.0),
        ("Rating: 1-10", None),
        ("Rating: 10 - could not be better", 10.0),
        ("Rating: 7.5 - sound", 7.5),
        ("Rating: -3", None),
        ("Rating: 1e1", None),
        ("[[8]]; a rating 3 points lower would be unfair", 8.0),
        ("[[11]]", None),
        ("[[0]]", None),
        ("good", None),
    ],
)
def test_a_rating_is_the_last_number_that_is_stated(text: str, rating: float | None) -> None:
    assert read_rating(text) == rating


async def judged(
    mode: JudgeMode,
    answer: Callable[[str], str],
    *,
    subset: str = "Math",
    candidates: tuple[str, ...] = CANDIDATES,
) -> ScoredGroup:
    def handle(request: httpx.Request) -> httpx.Response:
        said = answer(json.loads(request.content)["messages"][0]["content"])
        choice = {"message": {"content": said}, "finish_reason": "stop"}
        return httpx.Response(400 if said == "no" else 200, json={"choices": [choice]})

    ranks = (1, *(2 for _ in candidates[1:]))
    group = RankedGroup("q", Conversation.ask("What helps?"), candidates, ranks, subset)
    transport = httpx.MockTransport(handle)
    async with ChatClient("http://judge/v1", "m", transport=transport) as chat:
        questions = ask([group], "as_asked", total=1)
        [scored] = [one async for one in judge(Judge(chat, mode), questions)]
    return scored


def letter_of(text: str, asked: str) -> str:
    found = re.search(rf"<answer ([A-D])>\n{re.escape(text)}\n</answer \1>", asked)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("picked", [0, 3])
async def test_the_pick_is_told_from_the_shuffled_letters(picked: int) -> None:
    scored = await judged("ranking", lambda asked: f"[[{letter_of(CANDIDATES[picked], asked)}]]")
    assert scored.rewards == tuple(float(place == picked) for place in range(4))


async def test_ties_are_rated_whatever_the_mode() -> None:
    scored = await judged(
        "ranking", lambda asked: "[[9]]" if CANDIDATES[0] in asked else "[[2]]", subset="Ties"
    )
    assert scored.rewards == (9.0, 2.0, 2.0, 2.0)


async def test_what_cannot_be_read_is_an_error_of_its_candidates() -> None:
    ranked = await judged("ranking", lambda asked: "I like them all.")
    assert ranked.errors == (UNREADABLE,) * 4
    rated = await judged("ratings", lambda asked: "[[5]]" if CANDIDATES[1] in asked else "fine")
    assert rated.rewards == (None, 5.0, None, None)
    refused = await judged("ratings", lambda asked: "no")
    assert refused.errors[0] == "judge_failed: http://judge/v1/chat/completions: answered 400"


async def test_more_answers_than_letters_are_not_picked_from() -> None:
    scored = await judged("ranking", lambda asked: "[[A]]", candidates=("Rest.",) * 27)
    assert scored.rewards == (None,) * 27
    assert scored.errors[0] == "too_many_candidates: 27, a judge picks among 26 at most"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
