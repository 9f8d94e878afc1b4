from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import ScoresError
from benchmarks.scored import win
from benchmarks.stored_scores import read_scores
from corpora.errors import CorpusError
from corpora.rankings.registry import read_ranked


def line(label: str, *judgments: list[Any] | None) -> dict[str, Any]:
    return {
        "pair_id": "p",
        "source": "mmlu-pro-health",
        "question": "Which vitamin prevents scurvy?",
        "response_A": "B12.",
        "response_B": "C.",
        "label": label,
        "judgments": [
            scores and {"judgment": {"scores": scores}, "decision": "B>A"} for scores in judgments
        ],
    }


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "outputs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def test_both_orders_of_a_pair_are_one_reward_a_response(tmp_path: Path) -> None:
    path = write(tmp_path, line("B>A", [1.0, 2.0], [2.5, 0.5]), line("A>B", [1.0, 2.0]))
    first, second = read_scores(path)
    assert (first.rewards, first.ranks, win(first)) == ((0.75, 2.25), (2, 1), 1.0)
    assert (second.rewards, second.number, win(second)) == ((1.0, 2.0), 1, 0.0)
    assert first.subset == "mmlu-pro-health"


def test_the_pairs_are_those_of_an_evaluation_of_the_set_itself(tmp_path: Path) -> None:
    path = write(tmp_path, line("B>A", [1.0, 2.0]))
    [scored], [pair] = read_scores(path), read_ranked(str(path), None)
    assert scored.digest == pair.digest


def test_a_judgment_that_failed_is_an_error_and_no_number(tmp_path: Path) -> None:
    path = write(tmp_path, line("B>A", [1.0, 2.0], None), line("B>A", [1.0, None]))
    half, one = read_scores(path)
    assert half.rewards == (None, None)
    assert one.rewards == (1.0, None)
    assert one.errors == (None, f"missing_reward: {path}:2: has no finite score")


@pytest.mark.parametrize(
    ("judgments", "words"),
    [
        pytest.param([], "expected one, or two in both orders", id="none"),
        pytest.param("B>A", "expected one, or two in both orders", id="text"),
        pytest.param([{"judgment": {"response": "B"}}], "give the scores of a", id="words"),
        pytest.param([{"judgment": {"scores": [1, 2, 3]}}], "expected two numbers", id="three"),
        pytest.param([{"judgment": {"scores": ["1", 2]}}], "expected a number", id="no number"),
    ],
)
def test_a_line_without_scores_is_named(tmp_path: Path, judgments: Any, words: str) -> None:
    path = write(tmp_path, line("B>A") | {"judgments": judgments})
    with pytest.raises(ScoresError, match=rf"outputs\.jsonl:1: judgments.*{words}"):
        list(read_scores(path))


def test_a_label_that_names_no_better_response_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, line("A=B", [1.0, 2.0]))
    with pytest.raises(CorpusError, match="label: 'A=B' names no better response"):
        list(read_scores(path))
