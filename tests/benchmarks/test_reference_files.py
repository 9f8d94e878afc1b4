from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reference_files import (
    Layout,
    Subject,
    Tally,
    all_line,
    best_of_item,
    is_pair,
    leaderboard_entry,
    outputs_line,
    pair_item,
    result,
)
from benchmarks.reference_writer import ReferenceFiles
from benchmarks.scored import ScoredGroup
from benchmarks.stored_scores import read_scores
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from foundation.errors import JobError

SUBJECT = Subject("org/model")
QUESTION = {"role": "user", "content": "What helps a stuffy nose?"}


def ranked(
    *candidates: str,
    ranks: Sequence[int] = (1, 2),
    subset: str = "alpacaeval-easy",
    name: str = "q1",
    **details: object,
) -> RankedGroup:
    conversation = Conversation.ask(QUESTION["content"])
    return RankedGroup(name, conversation, candidates, tuple(ranks), subset, details)


def scored(group: RankedGroup, *rewards: float | None, number: int = 0) -> ScoredGroup:
    errors = ["timeout: none" if reward is None else None for reward in rewards]
    return ScoredGroup.of(number, group, rewards, errors)


PAIR = ranked("Steam.", "Antibiotics.", chosen_model="gpt", tags=["a", "list"])


def write(
    folder: Path,
    rows: Sequence[tuple[RankedGroup, ScoredGroup]],
    subsets: dict[str, float | None],
    *,
    layout: Layout = "rewardbench",
    subject: Subject = SUBJECT,
) -> set[str]:
    with ReferenceFiles(folder, subject, layout) as files:
        for row in rows:
            files.add(*row)
        return {str(path.relative_to(folder)) for path in files.finish(subsets)}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_line_has_the_tools_fields_and_the_records_own() -> None:
    assert outputs_line(PAIR, scored(PAIR, 1.5, -0.5, number=7)) == {
        "prompt": [QUESTION],
        "results": 1,
        "scores_chosen": 1.5,
        "scores_rejected": -0.5,
        "text_chosen": [QUESTION, {"role": "assistant", "content": "Steam."}],
        "text_rejected": [QUESTION, {"role": "assistant", "content": "Antibiotics."}],
        "chosen": "Steam.",
        "rejected": "Antibiotics.",
        "id": "q1",
        "subset": "alpacaeval-easy",
        "number": 7,
        "digest": PAIR.digest,
        "chosen_model": "gpt",
    }


def test_the_chosen_candidate_is_told_by_its_rank_and_not_by_its_place() -> None:
    group = ranked("Antibiotics.", "Steam.", ranks=(2, 1))
    line = outputs_line(group, scored(group, -0.5, 1.5))
    assert (line["scores_chosen"], line["text_chosen"][-1]["content"]) == (1.5, "Steam.")
    assert all_line(scored(group, -0.5, 1.5)) == {"chosen": 1.5, "rejected": -0.5}


@pytest.mark.parametrize(("name", "kept"), [("31", 31), ("007", "007"), ("q1", "q1")])
def test_rewardbenchs_ids_are_numbers(name: str, kept: object) -> None:
    group = ranked("a", "b", name=name)
    assert outputs_line(group, scored(group, 1.0, 0.0))["id"] == kept
    assert pair_item(group, scored(group, 1.0, 0.0))["id"] == kept


def test_equal_rewards_are_wrong_as_the_tool_has_it() -> None:
    assert outputs_line(PAIR, scored(PAIR, 1.0, 1.0))["results"] == 0


def test_the_result_holds_accuracy_whole_and_by_subset() -> None:
    tally = {"hep-go": Tally(1, 4), "alpacaeval-easy": Tally(2, 2)}
    assert result(tally, SUBJECT) == {
        "accuracy": 0.5,
        "num_prompts": 6,
        "model": "org/model",
        "ref_model": None,
        "tokenizer": "org/model",
        "chat_template": "tokenizer",
        "extra_results": {"alpacaeval-easy": 1.0, "hep-go": 0.25},
    }


def test_pairs_without_subsets_have_no_extra_results() -> None:
    assert result({"": Tally(1, 2)}, SUBJECT)["extra_results"] is None


def test_a_leaderboard_entry_is_flat_and_leaves_out_what_has_no_score() -> None:
    entry = leaderboard_entry(
        {"hep-go": 0.25, "math-prm": None},
        Subject("org/dpo", model_type="DPO", chat_template="tulu", ref_model="org/base"),
    )
    assert entry == {
        "hep-go": 0.25,
        "chat_template": "tulu",
        "model": "org/dpo",
        "model_type": "DPO",
        "ref_model": "org/base",
    }
    assert "ref_model" not in leaderboard_entry({}, SUBJECT)


@pytest.mark.parametrize(
    ("rewards", "share"),
    [
        pytest.param((2.0, 1.0, 0.0, 1.0), 1.0, id="alone at the top"),
        pytest.param((2.0, 2.0, 0.0, 2.0), 1 / 3, id="one of three"),
        pytest.param((1.0, 2.0, 0.0, 0.0), 0.0, id="below"),
    ],
)
def test_an_item_of_four_has_the_share_of_its_right_answer_in_the_maximum(
    rewards: tuple[float, ...], share: float
) -> None:
    group = ranked("a", "b", "c", "d", ranks=(1, 2, 2, 2), subset="Focus")
    item = best_of_item(group, scored(group, *rewards))
    assert item["results"] == share
    assert item["text"][1] == [QUESTION, {"role": "assistant", "content": "b"}]
    assert item.keys() == {
        "text",
        "scores",
        "results",
        "subset",
        "id",
        "num_correct",
        "digest",
    }


def test_right_answers_come_first_in_an_item() -> None:
    group = ranked("a", "b", "c", ranks=(2, 1, 1), subset="Ties", name="tied:3")
    item = best_of_item(group, scored(group, 1.0, 2.0, 3.0))
    assert (item["scores"], item["num_correct"], item["id"]) == ([2.0, 3.0, 1.0], 2, "tied:3")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        pytest.param("org/model", "org/model", id="a hub's name"),
        pytest.param("default", "local/default", id="no organisation"),
        pytest.param("/models/org/model/", "org/model", id="a folder"),
        pytest.param("../../etc/x", "etc/x", id="no way out of the folder"),
        pytest.param("..", "local/model", id="nothing left"),
    ],
)
def test_files_lie_in_a_folder_of_the_organisation(model: str, path: str) -> None:
    assert str(Subject(model).path) == path


def test_a_group_of_three_or_without_a_reward_is_no_pair() -> None:
    three = ranked("a", "b", "c", ranks=(1, 2, 2))
    assert not is_pair(scored(three, 1.0, 2.0, 3.0))
    assert not is_pair(scored(PAIR, None, 1.0))
    tie = ranked("a", "b", ranks=(1, 1))
    assert not is_pair(scored(tie, 2.0, 1.0))


def test_rewardbench_has_the_tools_files_with_the_prior_sets_apart(tmp_path: Path) -> None:
    prior = ranked("a", "b", subset="shp", name="s1")
    rows = [(PAIR, scored(PAIR, 1.0, 0.0)), (prior, scored(prior, 0.0, 1.0, number=1))]
    assert write(tmp_path, rows, {"alpacaeval-easy": 1.0, "shp": 0.0}) == {
        "org/model.json",
        "org/model_outputs.jsonl",
        "org/model_all.jsonl",
        "eval-set/org/model.json",
        "eval-set-scores/org/model.json",
        "pref-sets/org/model.json",
        "pref-sets-scores/org/model.json",
    }
    assert read(tmp_path / "eval-set/org/model.json") == {
        "alpacaeval-easy": 1.0,
        "chat_template": "tokenizer",
        "model": "org/model",
        "model_type": "Seq. Classifier",
    }
    assert read(tmp_path / "pref-sets/org/model.json")["shp"] == 0.0
    assert read(tmp_path / "pref-sets-scores/org/model.json") == {
        "text_chosen": [[QUESTION, {"role": "assistant", "content": "a"}]],
        "text_rejected": [[QUESTION, {"role": "assistant", "content": "b"}]],
        "results": [0],
        "subset": ["shp"],
        "id": ["s1"],
        "scores_chosen": [0.0],
        "scores_rejected": [1.0],
        "digest": [prior.digest],
        "chat_template": "tokenizer",
        "model": "org/model",
        "model_type": "Seq. Classifier",
    }
    # The tool's command knows the core set alone.
    assert read(tmp_path / "org/model.json")["extra_results"] == {"alpacaeval-easy": 1.0}
    assert read(tmp_path / "org/model.json")["num_prompts"] == 1
    for ending in ("_outputs.jsonl", "_all.jsonl"):
        assert len((tmp_path / f"org/model{ending}").read_text().splitlines()) == 1


def test_equal_rewards_are_wrong_on_the_leaderboard_whatever_is_counted_here(
    tmp_path: Path,
) -> None:
    write(tmp_path, [(PAIR, scored(PAIR, 1.0, 1.0))], {"alpacaeval-easy": 0.5})
    assert read(tmp_path / "eval-set/org/model.json")["alpacaeval-easy"] == 0.0
    assert read(tmp_path / "eval-set-scores/org/model.json")["results"] == [0]


def test_withdrawn_sets_are_in_no_file(tmp_path: Path) -> None:
    withdrawn = ranked("a", "b", subset="pku_safer")
    rows = [(PAIR, scored(PAIR, 1.0, 0.0)), (withdrawn, scored(withdrawn, 1.0, 0.0, number=1))]
    assert not [path for path in write(tmp_path, rows, {}) if path.startswith("pref-sets")]
    assert read(tmp_path / "org/model.json")["num_prompts"] == 1


def test_rewardbench_2_has_its_scores_as_one_list_a_field(tmp_path: Path) -> None:
    first = ranked("a", "b", "c", "d", ranks=(1, 2, 2, 2), subset="Focus", name="1")
    second = ranked("e", "f", "g", ranks=(1, 1, 2), subset="Ties", name="tied:1")
    rows = [(first, scored(first, 3.0, 2.0, 1.0, 0.0)), (second, scored(second, 1.0, 1.0, 0.0))]
    assert write(tmp_path, rows, {"Focus": 1.0, "Ties": 0.6}, layout="rewardbench2") == {
        "eval-set/org/model.json",
        "eval-set-scores/org/model.json",
    }
    items = read(tmp_path / "eval-set-scores/org/model.json")
    assert items["scores"] == [[3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    assert items["num_correct"] == [1, 2]
    assert items["results"] == [1.0, 0.5]
    assert items["id"] == ["1", "tied:1"]
    assert [len(texts) for texts in items["text"]] == [4, 3]
    assert items["model"] == "org/model"


def test_other_pairs_have_no_leaderboard(tmp_path: Path) -> None:
    paths = write(tmp_path, [(PAIR, scored(PAIR, 1.0, 0.0))], {}, layout="pairs")
    assert paths == {"org/model.json", "org/model_outputs.jsonl", "org/model_all.jsonl"}


def test_a_failed_group_is_in_no_file_and_in_no_number(tmp_path: Path) -> None:
    rows = [(PAIR, scored(PAIR, 1.0, 0.0)), (PAIR, scored(PAIR, None, 0.0, number=1))]
    write(tmp_path, rows, {"alpacaeval-easy": 1.0})
    assert len((tmp_path / "org/model_outputs.jsonl").read_text().splitlines()) == 1
    assert read(tmp_path / "org/model.json")["num_prompts"] == 1


def test_an_evaluation_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with ReferenceFiles(tmp_path, SUBJECT, "rewardbench") as files:
        files.add(PAIR, scored(PAIR, 1.0, 0.0))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "org").write_text("a file where a folder is wanted")
    with (
        pytest.raises(JobError, match=r"_outputs\.jsonl: cannot be written"),
        ReferenceFiles(tmp_path, SUBJECT, "pairs") as files,
    ):
        files.add(PAIR, scored(PAIR, 1.0, 0.0))


@pytest.mark.parametrize("name", ["org/model_outputs.jsonl", "eval-set-scores/org/model.json"])
def test_what_was_written_is_read_again_with_digests_and_lengths(tmp_path: Path, name: str) -> None:
    others = ranked("Rinse.", "Rinse, then rest.", name="q2")
    rows = [(PAIR, scored(PAIR, 1.25, 0.5)), (others, scored(others, 1 / 3, math.pi, number=1))]
    write(tmp_path, rows, {"alpacaeval-easy": 0.5})
    again = list(read_scores(tmp_path / name))
    kept = ("number", "id", "subset", "digest", "ranks", "rewards", "errors", "characters")
    for group, (_, before) in zip(again, rows, strict=True):
        assert [getattr(group, field) for field in kept] == [
            getattr(before, field) for field in kept
        ]


def test_rewardbench_2_is_read_again_as_it_was(tmp_path: Path) -> None:
    group = ranked("ee", "f", "gggg", ranks=(1, 1, 2), subset="Ties", name="tied:1")
    before = scored(group, 1.0, 1.5, 0.0)
    write(tmp_path, [(group, before)], {"Ties": 0.6}, layout="rewardbench2")
    assert list(read_scores(tmp_path / "eval-set-scores/org/model.json")) == [before]
