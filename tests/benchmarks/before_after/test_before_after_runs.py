"""Run folders: what is read of them, and what is said where something is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.runs import read_run
from benchmarks.before_after.serving import server_settings
from benchmarks.errors import BenchmarkError
from foundation.errors import UserError
from foundation.settings import check
from tests.benchmarks.before_after.folders import make_run, write_config


def test_base_final_policy_and_sampling_come_from_the_folder(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    assert (run.name, run.status, run.seed, run.version) == ("by-hand", "completed", 3, "r2")
    assert run.base == str(tmp_path / "run/policies/base")
    assert run.adapter == tmp_path / "run/policies/r2"
    assert run.gold == (0.4, 0.7)
    drawn = run.sampling(seed=5)
    assert (drawn.candidates, drawn.temperature, drawn.top_p, drawn.max_tokens, drawn.seed) == (
        *(2, 1.0, 0.9, 32),
        5,
    )
    assert run.open_world().name == "clinic"


def test_the_questions_are_those_that_the_run_held_out(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    other = read_run(make_run(tmp_path / "other"))
    first = run.open_world().heldout_questions(run.heldout_questions)
    assert [q.id for q in first] == [q.id for q in other.open_world().heldout_questions(6)]
    (tmp_path / "other/config.json").write_text(
        (tmp_path / "other/config.json").read_text().replace('"seed": 3', '"seed": 4')
    )
    moved = read_run(tmp_path / "other").open_world().heldout_questions(6)
    assert [q.id for q in first] != [q.id for q in moved]


def test_a_base_from_the_hub_is_known_by_its_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "policies/base/config.json").unlink()
    (folder / "policies/base").rmdir()
    config = json.loads((folder / "config.json").read_text())
    config["policy"]["model"] = "medalpaca/medalpaca-7b"
    (folder / "config.json").write_text(json.dumps(config))
    assert read_run(folder).base == "medalpaca/medalpaca-7b"


@pytest.mark.parametrize(
    ("remove", "problem"),
    [
        pytest.param("config.json", r"no run there \(no config\.json\); give the folder", id="run"),
        pytest.param("summary.json", "no round is finished .* go on with the run", id="summary"),
        pytest.param(
            "policies/r2/adapter_model.safetensors", "no adapter there .* whole run", id="adapter"
        ),
    ],
)
def test_what_is_missing_is_one_line_with_the_fix(
    tmp_path: Path, remove: str, problem: str
) -> None:
    folder = make_run(tmp_path / "run")
    (folder / remove).unlink()
    with pytest.raises(BenchmarkError, match=problem) as caught:
        read_run(folder)
    assert str(caught.value).startswith("RUN_DIR: ")
    assert "\n" not in str(caught.value)


def test_a_run_that_promoted_nothing_has_no_after(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", version="base_is_final")
    summary = json.loads((folder / "summary.json").read_text())
    summary["final"]["policy_version"] = "base"
    (folder / "summary.json").write_text(json.dumps(summary))
    problem = r"nothing was promoted, so base and final .* same"
    with pytest.raises(BenchmarkError, match=problem):
        read_run(folder)


def test_a_field_that_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "summary.json").write_text('{"run": "x", "status": "over"}')
    with pytest.raises(BenchmarkError, match=r"summary\.json: status: Input should be 'running'"):
        read_run(folder)


def test_the_servers_engine_is_the_runs_own_with_room_for_its_adapter(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write_config(folder, engine={"dtype": "float32", "max_model_len": 256, "max_lora_rank": 1})
    settings = server_settings(read_run(folder), port=8000, log_file=tmp_path / "log")
    assert (settings.dtype, settings.max_model_len, settings.max_lora_rank) == ("float32", 256, 8)
    write_config(folder, engine={"max_lora_rank": 64})
    assert server_settings(read_run(folder), port=1, log_file=tmp_path).max_lora_rank == 64


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param({"suites": ["dev.json"]}, "NAME=SOURCE", id="no name"),
        pytest.param({"suites": ["../x=dev.json"]}, "NAME=SOURCE", id="a path as name"),
        pytest.param({"general": ["a=1", "a=2"]}, "a is there already", id="twice"),
        pytest.param({"suites": ["a=1"], "general": ["a=2"]}, "is a --suite as well", id="both"),
        pytest.param({"world_modes": "sampled,best"}, "world_modes", id="unknown mode"),
    ],
)
def test_a_flag_that_does_not_fit_is_named(given: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check(BeforeAfterConfig, given, source="command line")


def test_each_version_answers_each_suite_in_a_folder_of_its_own(tmp_path: Path) -> None:
    config = BeforeAfterConfig.model_validate(
        {"suites": ["m=dev.json:mirage"], "modes": "likelihood", "questions": 9, "seed": 4}
    )
    asked = config.qa("m", "r2", server="http://policy.test", folder=tmp_path)
    assert asked.folder == tmp_path / "suites/m/r2"
    assert (asked.version, asked.limit, asked.modes, asked.seed) == ("r2", 9, ("likelihood",), 4)
    assert [(s.name, s.source, s.format) for s in asked.sources] == [("m", "dev.json", "mirage")]
    assert config.folder(tmp_path / "runs/x") == Path("evaluations/before-after/x")
