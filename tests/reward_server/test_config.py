"""From flags and a settings file to a configuration, and the one line where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from foundation.settings import SettingsError, check
from reward_server import loading
from reward_server import server as server_module
from reward_server.__main__ import main
from reward_server.config import RewardServerConfig
from reward_server.errors import ServerStartError
from reward_server.loading import COMMIT, find_model
from reward_server.protocol import Kind
from reward_server.specs import SequenceClassificationSpec

EVERY_KIND = """
port = 8200
cache_entries = 0

[models.helpful]
kind = "sequence_classification"
model = "runs/helpful"
dtype = "float32"

[models.objectives]
kind = "multi_objective"
model = "runs/objectives"
weights = {helpfulness = 0.7, correctness = 0.3}

[models.pairs]
kind = "pairwise"
model = "runs/pairs"
choices = ["A", "B"]

[models.dpo]
kind = "implicit"
model = "runs/policy"
reference = "runs/base"
beta = 0.05

[models.both]
kind = "ensemble"
members = ["helpful", "rules"]

[models.judge]
kind = "judge"
url = "http://127.0.0.1:8000/v1"
model = "some-judge"

[models.rules]
kind = "rules"
rules = [{rule = "answer_key"}, {rule = "format", pattern = "x"}, {rule = "length", max_words = 9}]

[aliases]
production = "both"

[calibrations]
helpful = "calibration.json"

[canaries]
helpful = "canary.json"
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[RewardServerConfig]:
    """The configurations that ``main`` would serve."""
    configs: list[RewardServerConfig] = []

    def serve(config: RewardServerConfig) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(server_module, "serve", serve)
    return configs


def write(folder: Path, content: str) -> str:
    path = folder / "server.toml"
    path.write_text(content)
    return str(path)


def test_flags_describe_one_model(served: list[RewardServerConfig]) -> None:
    flags = "--model here --name helpful --dtype float32 --deterministic --port 0"
    assert main([*flags.split(), "--calibration", "c.json", "--no-wires"]) == 0
    (config,) = served
    assert config.specs() == {
        "helpful": SequenceClassificationSpec(model="here", dtype="float32", deterministic=True)
    }
    assert (config.port, config.wires, config.audit_text) == (0, False, False)
    assert config.calibration_of("helpful") == Path("c.json")


def test_a_file_describes_models_of_every_kind(
    served: list[RewardServerConfig], tmp_path: Path
) -> None:
    assert main(["--config", write(tmp_path, EVERY_KIND)]) == 0
    (config,) = served
    specs = config.specs()
    assert {spec.kind for spec in specs.values()} == set(get_args(Kind))
    assert list(specs)[-1] == "both", "an ensemble comes after its members"
    assert config.aliases == {"production": "both"}
    assert config.calibration_of("helpful") == Path("calibration.json")
    assert config.canary_of("helpful") == Path("canary.json")
    assert config.calibration_of("rules") is None


def test_flags_go_before_the_file_and_add_a_model_to_it(
    served: list[RewardServerConfig], tmp_path: Path
) -> None:
    path = write(tmp_path, EVERY_KIND)
    assert main(["--config", path, "--port", "8300", "--model", "here", "--name", "new"]) == 0
    (config,) = served
    assert next(iter(config.specs())) == "new"
    assert (config.port, config.cache_entries, len(config.specs())) == (8300, 0, 8)


def test_the_flag_of_an_artefact_goes_before_the_table() -> None:
    config = RewardServerConfig(
        model="here",
        calibration=Path("flag.json"),
        calibrations={"default": Path("table.json")},
        canaries={"default": Path("canary.json")},
    )
    assert config.calibration_of("default") == Path("flag.json")
    assert config.canary_of("default") == Path("canary.json")


ONE_MODEL = '[models.a]\nkind = "rules"\nrules = [{rule = "length"}]\n'
BAD_FILES = [
    pytest.param("", "missing; give --model, or --config with a [models.NAME]", id="nothing"),
    pytest.param('model = "m"\n[models.default]\nkind = "judge"', "models.default.url", id="m"),
    pytest.param("prot = 1", "prot: unknown key; did you mean port?", id="typo"),
    pytest.param(
        f"port = 70000\n{ONE_MODEL}", "port: 70000: Input should be less than", id="range"
    ),
    pytest.param(f"host = 1\n{ONE_MODEL}", "host: 1: Input should be a valid string", id="type"),
    pytest.param(
        '[models.a]\nkind = "jugde"', "does not match any of the expected tags", id="kind"
    ),
    pytest.param(
        f'{ONE_MODEL}[aliases]\nx = "b"', "aliases: 'x' leads to 'b', which is no", id="alias"
    ),
    pytest.param(
        f'{ONE_MODEL}[aliases]\na = "a"', "aliases: 'a' is the name of a model; take", id="shadow"
    ),
    pytest.param(
        f'{ONE_MODEL}[calibrations]\nb = "c.json"',
        "calibrations: 'b' is no model",
        id="calibrations",
    ),
    pytest.param(
        f'{ONE_MODEL}[canaries]\nb = "c.json"', "canaries: 'b' is no model", id="canaries"
    ),
    pytest.param(
        f'calibration = "c.json"\n{ONE_MODEL}',
        "calibration: it is for name 'default', which is no model of this server; it has 'a'",
        id="calibration of no model",
    ),
    pytest.param("port = ", "malformed TOML", id="no TOML"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_file_that_does_not_fit_is_one_line_and_exit_2(
    served: list[RewardServerConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    path = write(tmp_path, content)
    assert main(["--config", path]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m reward_server: {path}: ")
    assert message in printed
    assert printed.count("\n") == 1
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "m", "--port", "70000"], "command line: port: '70000': "),
        (["--model", "m", "--max-length", "1"], "command line: max_length: '1': "),
        (["--model", ""], "command line: model: '': "),
        (["--port", "1"], "command line: model: missing; give --model, or --config"),
        (["--config", "no.toml"], "no.toml: no such file"),
    ],
)
def test_flags_that_do_not_fit_are_one_line_and_exit_2(
    served: list[RewardServerConfig],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m reward_server: {message}")
    assert printed.count("\n") == 1
    assert served == []


def test_a_flag_that_does_not_fit_is_not_blamed_on_the_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ONE_MODEL)
    assert main(["--config", path, "--port", "x"]) == 2
    assert f"{path} under the command line: port: 'x': " in capsys.readouterr().err


def test_the_model_of_the_flags_needs_a_name_of_its_own() -> None:
    content = {
        "model": "m",
        "models": {"default": {"kind": "rules", "rules": [{"rule": "length"}]}},
    }
    with pytest.raises(SettingsError, match=r"name: 'default' is also a \[models.default\] table"):
        check(RewardServerConfig, content, source="server.toml")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "examples:\n  python -m reward_server --model" in capsys.readouterr().out


# Models on the hub

HEAD = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, object]]:
    """A hub with one model, ``team/model``; what it was asked for."""
    asked: list[dict[str, object]] = []
    folder = tmp_path / HEAD
    folder.mkdir()
    (folder / "model.safetensors").touch()

    def snapshot_download(name: str, **options: object) -> str:
        asked.append(options)
        if name != "team/model":
            raise LocalEntryNotFoundError("not there")
        return str(folder)

    monkeypatch.setattr(loading, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("revision", "given"),
    [(None, "missing"), ("main", "'main' is no commit"), (HEAD[:8], f"'{HEAD[:8]}' is no commit")],
)
def test_a_revision_that_may_move_is_refused_before_weights_are_fetched(
    hub: list[dict[str, object]], revision: str | None, given: str
) -> None:
    with pytest.raises(ServerStartError) as caught:
        find_model(SequenceClassificationSpec(model="team/model", revision=revision))
    assert str(caught.value) == (
        f"revision: {given} for team/model, which may change on the hub; --revision {HEAD} is what "
        "it is now (or --allow-floating-revision)"
    )
    assert hub == [{"revision": revision, "allow_patterns": ["config.json"]}]


def test_a_commit_is_fetched_without_code(hub: list[dict[str, object]]) -> None:
    assert COMMIT.fullmatch(HEAD)
    folder = find_model(SequenceClassificationSpec(model="team/model", revision=HEAD))
    assert folder.name == HEAD
    patterns = hub[0]["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.safetensors" in patterns
    assert "*.py" not in patterns
    assert not any("bin" in pattern or "pt" in pattern for pattern in patterns)


def test_a_name_may_float_and_bring_code_where_that_is_said(hub: list[dict[str, object]]) -> None:
    find_model(
        SequenceClassificationSpec(
            model="team/model", allow_floating_revision=True, trust_remote_code=True
        )
    )
    patterns = hub[0]["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.py" in patterns


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("model", ["team/other", "x" * 3_000, "\0"])
def test_what_is_no_model_is_refused(model: str) -> None:
    with pytest.raises(ServerStartError, match="is neither a folder nor a model that the hub"):
        find_model(SequenceClassificationSpec(model=model))


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ServerStartError, match=r"holds no \*\.safetensors"):
        find_model(SequenceClassificationSpec(model=str(tmp_path)))
