"""Records of nobody's benchmark: pairs, ranked candidates, NeMo's completions."""

from __future__ import annotations

from typing import Any

import pytest

from corpora.conversation import Conversation
from corpora.rankings.pairs import PAIRS
from corpora.rankings.ranked import RANKED
from tests.corpora.rankings.reading import ASKED, detected, read, refusal, said, system, user

PAIR = {"chosen": "Saline.", "rejected": "Antibiotics."}
CANDIDATES = {
    "prompt": ASKED,
    "candidates": ["A walk.", "Saline.", "Antibiotics."],
    "ranks": [2, 1, 2],
}
NEMO: dict[str, Any] = {
    "context": [system("Be brief."), user()],
    "completions": [
        {"rank": 1, "completion": [said("A walk.")]},
        {"rank": 0, "completion": [said("Saline.")]},
    ],
    "task_name": "nose",
}


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": ASKED},
        {"prompt": [user()]},
        {"messages": [user()]},
        {"question": ASKED},
        {"input": ASKED},
        {"chosen": [user(), said("Saline.")], "rejected": [user(), said("Antibiotics.")]},
    ],
)
def test_pairs_are_asked_in_any_field(asked: dict[str, Any]) -> None:
    group = read(PAIRS, PAIR | asked)
    assert group.conversation == Conversation.ask(ASKED)
    assert (group.candidates, group.ranks) == (("Saline.", "Antibiotics."), (1, 2))
    assert (group.id, group.subset) == ("test:7", "")
    assert detected(PAIR | asked) is PAIRS


def test_a_pair_may_have_an_id_and_a_subset() -> None:
    group = read(PAIRS, {**PAIR, "prompt": ASKED, "id": 0, "subset": "nose"})
    assert (group.id, group.subset) == ("0", "nose")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (PAIR, "prompt: missing, and the answers repeat none; give it"),
        ({**PAIR, "question": 7}, "question: expected text or messages, got 7"),
        ({**PAIR, "prompt": ASKED, "subset": 7}, "subset: expected text, got 7"),
    ],
)
def test_a_bad_pair_is_named(fields: dict[str, Any], message: str) -> None:
    assert refusal(PAIRS, fields).startswith(message)


def test_ranked_candidates_keep_their_order_and_ranks() -> None:
    group = read(RANKED, {**CANDIDATES, "id": "q1", "subset": "nose"})
    assert group.conversation == Conversation.ask(ASKED)
    assert group.candidates == ("A walk.", "Saline.", "Antibiotics.")
    assert (group.id, group.ranks, group.subset) == ("q1", (2, 1, 2), "nose")
    assert detected(CANDIDATES) is RANKED


@pytest.mark.parametrize("first", [-1, 0, 1, 5])
def test_nemo_counts_its_ranks_from_any_number(first: int) -> None:
    rows = [row | {"rank": first + row["rank"]} for row in NEMO["completions"]]
    group = read(RANKED, NEMO | {"completions": rows})
    assert group.conversation.to_dicts() == NEMO["context"]
    assert (group.candidates, group.ranks) == (("A walk.", "Saline."), (2, 1))
    assert group.subset == "nose"
    assert detected(NEMO) is RANKED


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            CANDIDATES | {"ranks": [1, 2]},
            "ranks: 2 for 3 candidates; give one for each",
            id="too few ranks",
        ),
        pytest.param(CANDIDATES | {"ranks": [2, 0, 1]}, "ranks: the best is 0", id="from 0"),
        pytest.param(
            CANDIDATES | {"ranks": [1, 2.5, 3]},
            "ranks: expected whole numbers, got 2.5; give 1 for the best",
            id="no whole number",
        ),
        pytest.param(CANDIDATES | {"ranks": None}, "ranks: missing; give the rank", id="no ranks"),
        pytest.param(CANDIDATES | {"ranks": "12"}, "ranks: expected a list, got '12'", id="text"),
        pytest.param(CANDIDATES | {"candidates": [1]}, "candidates: expected a list", id="numbers"),
        pytest.param(CANDIDATES | {"prompt": None}, "prompt: missing", id="nothing asked"),
        pytest.param(
            NEMO | {"completions": [{"rank": 0, "completion": "Saline."}]},
            "candidates: fewer than two",
            id="alone",
        ),
        pytest.param(NEMO | {"completions": []}, "candidates: fewer than two", id="none"),
        pytest.param(NEMO | {"completions": ["a", "b"]}, "completions: expected a", id="texts"),
        pytest.param(
            NEMO | {"completions": [{"rank": 0, "completion": "a"}, {"rank": 1}]},
            "completions.completion: missing; give a text or a list of messages",
            id="no completion",
        ),
        pytest.param(
            NEMO | {"completions": [{"completion": "a"}, {"rank": 1, "completion": "b"}]},
            "completions.rank: expected whole numbers, got None",
            id="no rank",
        ),
        pytest.param(
            NEMO
            | {
                "completions": [
                    {"rank": 0, "completion": [user("Why?"), said("a")]},
                    {"rank": 1, "completion": "b"},
                ]
            },
            "completions: answer different conversations; rank them apart",
            id="different conversations",
        ),
    ],
)
def test_bad_ranked_candidates_are_named(fields: dict[str, Any], message: str) -> None:
    assert refusal(RANKED, fields).startswith(message)
