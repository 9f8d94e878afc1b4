from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import ScoresError
from benchmarks.scored import ScoredGroup
from benchmarks.stored_scores import read_scores
from foundation.errors import UserError

GROUP = ScoredGroup(
    number=3,
    id="q3",
    subset="easy",
    digest="0123456789abcdef",
    ranks=(1, 2),
    rewards=(1.5, None),
    errors=(None, "too_long: 4100 tokens"),
    characters=(12, 9),
    details={"source": "MedQA"},
)


def lines(tmp_path: Path, *rows: dict[str, Any], name: str = "x_outputs.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def arrays(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(columns, indent=4), encoding="utf-8")
    return path


def one(path: Path) -> ScoredGroup:
    (group,) = read_scores(path)
    return group


def pair(**fields: object) -> dict[str, object]:
    return {"scores_chosen": 1.0, "scores_rejected": 0.0, **fields}


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(GROUP.to_json() + "\n", encoding="utf-8")
    assert one(path) == GROUP
    assert one(tmp_path) == GROUP


def test_the_torn_last_line_of_a_journal_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(GROUP.to_json() + "\n" + GROUP.to_json()[:40], encoding="utf-8")
    assert one(path) == GROUP


def test_a_whole_last_line_counts_whether_or_not_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(GROUP.to_json() + "\n" + GROUP.to_json(), encoding="utf-8")
    assert list(read_scores(path)) == [GROUP, GROUP]


def test_a_damaged_line_of_a_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(GROUP.to_json() + "\n{bad}\n" + GROUP.to_json(), encoding="utf-8")
    with pytest.raises(UserError, match=r"scores\.jsonl:2: is damaged"):
        list(read_scores(path))


def test_a_line_of_the_reference_tool_is_a_pair(tmp_path: Path) -> None:
    path = lines(tmp_path, pair(id=31, subset="hep-go", results=0, chosen_model="gpt"))
    group = one(path)
    assert (group.id, group.subset, group.ranks) == ("31", "hep-go", (1, 2))
    assert (group.rewards, group.characters) == ((1.0, 0.0), None)
    assert group.details == {"chosen_model": "gpt"}


def test_lines_with_nothing_but_two_numbers_are_pairs(tmp_path: Path) -> None:
    path = lines(tmp_path, {"chosen": 1.5, "rejected": 2}, {"chosen": 0.5, "rejected": -1})
    groups = list(read_scores(path))
    assert [(group.number, group.rewards) for group in groups] == [
        (0, (1.5, 2.0)),
        (1, (0.5, -1.0)),
    ]


def test_arrays_of_pairs_are_groups(tmp_path: Path) -> None:
    path = arrays(
        tmp_path,
        scores_chosen=[[1.5], [0.5]],  # as the tool writes models that answer with a list
        scores_rejected=[[1.0], [2.0]],
        id=[8, 9],
        subset=["hep-go", "hep-js"],
        model="org/model",
    )
    groups = list(read_scores(path))
    assert [(g.id, g.subset, g.rewards) for g in groups] == [
        ("8", "hep-go", (1.5, 1.0)),
        ("9", "hep-js", (0.5, 2.0)),
    ]


def test_arrays_of_rewardbench_2_have_their_right_answers_first(tmp_path: Path) -> None:
    path = arrays(
        tmp_path,
        scores=[[1.0, 0.0, 0.5, 0.25], [2.0, 1.0, 0.0]],
        num_correct=[1, 2],
        id=["11", "tied:4"],
        subset=["Math", "Ties"],
    )
    groups = list(read_scores(path))
    assert [group.ranks for group in groups] == [(1, 2, 2, 2), (1, 1, 2)]
    assert [group.id for group in groups] == ["11", "tied:4"]


@pytest.mark.parametrize(
    ("score", "error"),
    [
        pytest.param(math.nan, "non_finite_reward: {}:1: scores_chosen is nan", id="not a number"),
        pytest.param(-math.inf, "non_finite_reward: {}:1: scores_chosen is -inf", id="infinite"),
        pytest.param(10**400, "non_finite_reward: {}:1: scores_chosen is 1000", id="too large"),
        pytest.param(None, "missing_reward: {}:1: scores_chosen is null", id="null"),
    ],
)
def test_a_score_that_is_no_number_is_an_error_of_its_candidate(
    tmp_path: Path, score: float | None, error: str
) -> None:
    path = lines(tmp_path, pair(scores_chosen=score))
    group = one(path)
    assert not group.is_scored
    assert (group.errors[0] or "").startswith(error.format(path))
    assert group.errors[1] is None


def test_a_pair_without_one_of_its_scores_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path, pair(), {"scores_chosen": 1.0})
    with pytest.raises(ScoresError, match=r"_outputs\.jsonl:2: scores_rejected: missing"):
        list(read_scores(path))


@pytest.mark.parametrize("value", ["1.5", True, [1.0, 2.0]])
def test_a_score_of_another_kind_is_named(tmp_path: Path, value: object) -> None:
    path = lines(tmp_path, pair(scores_chosen=value))
    with pytest.raises(ScoresError, match=r":1: scores_chosen: expected a number, got"):
        list(read_scores(path))


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path, pair())
    path.write_text(path.read_text() + "{not json\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"_outputs\.jsonl:2: malformed JSON"):
        list(read_scores(path))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"scores_chosen": [1.0, 2.0], "scores_rejected": [0.0]},
            r"scores_rejected: 1 values beside 2 of scores_chosen",
            id="unequal lengths",
        ),
        pytest.param(
            {"scores_chosen": [1.0], "scores_rejected": [0.0], "subset": ["a", "b"]},
            r"subset: 2 values beside 1",
            id="unequal subsets",
        ),
        pytest.param(
            {"scores_chosen": [1.0]}, r"scores_rejected: expected a list", id="a list missing"
        ),
        pytest.param({"scores": [[1.0, 2.0]]}, r"num_correct: expected a list", id="no counts"),
        pytest.param({"accuracy": 0.5}, r"scores_chosen: expected a list", id="another file"),
        pytest.param(
            {"scores": [[1.0, 2.0]], "num_correct": [2]},
            r"item 1: num_correct: expected 1 to 1, for 2 scores, got 2",
            id="all are right",
        ),
        pytest.param(
            {"scores": [[1.0]], "num_correct": [1]},
            r"item 1: scores: expected a list of two or more",
            id="nothing to compare",
        ),
        pytest.param(
            {"scores": [[1.0, 2.0]], "num_correct": [1], "text": [["a"]]},
            r"item 1: text: 1 texts beside 2 scores",
            id="unequal texts",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    tmp_path: Path, columns: dict[str, object], message: str
) -> None:
    with pytest.raises(ScoresError, match=rf"model\.json: {message}"):
        list(read_scores(arrays(tmp_path, **columns)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("none.jsonl", None, "no such file", id="missing"),
        pytest.param("empty.jsonl", "", "holds no scores", id="empty lines"),
        pytest.param("x.jsonl", '{"text": "a", "score": 1}\n', "no scores among text", id="others"),
        pytest.param("x.json", "[1, 2]", "expected an object of lists", id="a list"),
        pytest.param("x.json", "{", "malformed JSON", id="malformed"),
        pytest.param(
            "x.json", '{"scores_chosen": [], "scores_rejected": []}', "holds no scores", id="none"
        ),
    ],
)
def test_a_file_without_scores_is_one_line(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ScoresError, match=message):
        list(read_scores(tmp_path / name))


def messages(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": content}]


def test_lengths_are_those_of_the_last_messages(tmp_path: Path) -> None:
    path = lines(
        tmp_path, pair(text_chosen=messages("Because."), text_rejected=messages("Be quiet!"))
    )
    assert one(path).characters == (8, 9)


def test_lengths_of_rendered_texts_are_without_question_and_template(tmp_path: Path) -> None:
    rendered = "<|user|>\nWhy?<|assistant|>\n{}<|end|>\n".format
    path = lines(
        tmp_path, pair(text_chosen=rendered("Not known"), text_rejected=rendered("It is so"))
    )
    assert one(path).characters == (9, 8)


@given(st.text(), st.text(), st.text(), st.text())
def test_differences_of_lengths_survive_any_template(
    tmp_path_factory: pytest.TempPathFactory, front: str, chosen: str, rejected: str, behind: str
) -> None:
    path = lines(
        tmp_path_factory.mktemp("scores"),
        pair(text_chosen=front + chosen + behind, text_rejected=front + rejected + behind),
    )
    found = one(path).characters
    assert found is not None
    assert found[0] - found[1] == len(chosen) - len(rejected)
    assert 0 <= found[0] <= len(chosen)
