from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from medpref import __version__
from medpref.cli import COMMANDS, main
from tests.loop.report.runs import sum_up

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  medpref {command}" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_no_command_at_all_is_bad_usage_and_shows_the_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


URL = f"http://127.0.0.1:{free_port()}"
RECIPE = str(QUICKSTART)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["serve", "reward"], "model: missing; give --model", id="no reward model"),
        pytest.param(["align", "nowhere.toml"], "nowhere.toml: no such file", id="no recipe"),
        pytest.param(["align", "broken.toml"], "broken.toml: malformed TOML", id="broken recipe"),
        pytest.param(["align", RECIPE, "--set", "pairs.margin=1"], "min_margin", id="unknown key"),
        pytest.param(["align", RECIPE, "--set", "rounds"], "section.key=value", id="no value"),
        pytest.param(["align", RECIPE, "--set", "rounds=0"], "rounds: 0", id="range"),
        pytest.param(
            ["align", RECIPE, "--set", "data.heldout_questions=9999"],
            "data.heldout_questions: 9999 wanted, the data has 416; set it to at most 416",
            id="more questions than there are",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "policy.scratch.heads=3"],
            "policy.scratch: hidden_size 256 over 3 heads",
            id="heads that vLLM cannot serve",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "policy.engine.max_model_len=512"],
            "engine.max_model_len 512 is above scratch.max_positions 256",
            id="more positions than the model has",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "sampling.max_tokens=256"],
            "sampling.max_tokens: 256 leaves no room",
            id="no room for a question",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "preference.lora.rank=32"],
            "preference.lora.rank: 32 is above policy.engine.max_lora_rank 16",
            id="a rank that vLLM refuses",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "policy.model=./none"],
            "policy.model: './none': no model there",
            id="wrong model path",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "reward.model=./none"],
            "reward.model: './none': no model there",
            id="wrong reward model path",
        ),
        pytest.param(
            ["align", RECIPE, "--set", "policy.model=model", "--set", f"policy.url={URL}"],
            f"{URL}: unreachable",
            id="policy server out of reach",
        ),
        pytest.param(
            ["align", RECIPE, "--set", f"reward.url={URL}"], URL, id="reward server out of reach"
        ),
        pytest.param(
            ["align", RECIPE, "--set", "data.world=medical-meadow"], "data.path", id="no data file"
        ),
        pytest.param(
            [
                *("align", RECIPE, "--set", "data.world=medical-meadow"),
                *("--set", "data.path=empty.json"),
            ],
            "empty.json",
            id="empty data file",
        ),
        pytest.param(
            [
                *("align", RECIPE, "--set", "data.world=medical-meadow"),
                *("--set", "data.path=fields.json"),
            ],
            "output",
            id="a record without its field",
        ),
        pytest.param(
            ["align", RECIPE, "--run-dir", "taken"], "add --resume", id="run folder taken"
        ),
        pytest.param(["align", RECIPE, "--resume"], "no run called quickstart", id="no run yet"),
        pytest.param(
            ["align", RECIPE, "--run-dir", "empty", "--resume"], "no run to resume", id="no run"
        ),
        pytest.param(["report", "nowhere"], "summary.json: no such file", id="report of nothing"),
        pytest.param(
            ["serve", "reward", "--model", "./none"], "./none", id="serve a missing reward model"
        ),
        pytest.param(
            ["serve", "policy", "--model", "./none"], "./none", id="serve a missing policy"
        ),
        pytest.param(
            ["serve", "policy", "--model", "x", "--port", "many"], "port: 'many'", id="no port"
        ),
        pytest.param(
            ["train", "reward", RECIPE, "--output", "new"], "--base: missing", id="no base policy"
        ),
        pytest.param(
            ["train", "sft", RECIPE, "--output", "taken"], "exists already", id="output taken"
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_writes_nothing(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Path.cwd()
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    (here / "taken").mkdir()
    (here / "taken" / "file").write_text("")
    (here / "broken.toml").write_text("name = ")
    (here / "empty.json").write_text("")
    (here / "fields.json").write_text(json.dumps([{"instruction": "a", "input": "b?"}]))
    before = sorted(here.rglob("*"))
    code = main(arguments)
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert code == 2
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["fly"], id="command"),
        pytest.param(["align"], id="no recipe"),
        pytest.param(["align", RECIPE, "--fast"], id="option"),
        pytest.param(["serve", "rewards"], id="service"),
    ],
)
def test_bad_usage_is_one_line_that_points_to_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--help" in error


def test_a_broken_run_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("one", "{"), ("two", sum_up(status="running").model_dump_json())):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(content)
    assert main(["runs"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any("one" in line and "unreadable" in line for line in shown)
    assert any("two" in line and "running" in line for line in shown)


def test_a_dry_run_prints_the_plan_and_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", RECIPE, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "policy server" in shown
    assert "at least" in shown
    assert list(Path.cwd().iterdir()) == []
