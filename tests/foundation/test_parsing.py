from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_key, read_settings
from foundation.settings import Settings, SettingsError


class Service(Settings):
    model: str
    """What is served."""
    port: int = Field(default=8000, ge=1)
    """Where it listens."""
    dtype: Literal["auto", "float32"] = "auto"
    """Arithmetic."""
    longest: int | None = None
    """Tokens of one input; what the model was built for if left out."""
    layers: tuple[str, ...] = ("query", "key")
    """Names of layers."""
    wires: bool = True
    """Whether more is served."""
    is_exact: bool = False
    """Whether it is exact."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weights by name."""


@pytest.fixture
def parser() -> Parser:
    parser = Parser("serve", "Serves.", examples="  serve --model here")
    add_settings(parser, Service)
    return parser


def test_what_is_given_is_read_and_the_rest_has_its_default(parser: Parser) -> None:
    options = parser.parse_args(["--model", "here", "--port", "81"])
    assert read_settings(Service, options) == Service(model="here", port=81)


@pytest.mark.parametrize(
    ("flags", "wires", "is_exact"),
    [
        ([], True, False),
        (["--wires", "--is-exact"], True, True),
        (["--no-wires", "--no-is-exact"], False, False),
        (["--is-exact", "--no-is-exact"], True, False),
    ],
)
def test_a_yes_or_no_is_a_flag_without_a_value(
    parser: Parser, flags: list[str], wires: bool, is_exact: bool
) -> None:
    settings = read_settings(Service, parser.parse_args(["--model", "here", *flags]))
    assert (settings.wires, settings.is_exact) == (wires, is_exact)


def test_a_table_has_no_flag(parser: Parser) -> None:
    assert "weights" not in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["--model", "here", "--weights", "1"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text("port = 81\nwires = false\nis_exact = true\nweights = {short = 0.5}\n")
    return path


def test_flags_lie_over_a_file(parser: Parser, file: Path) -> None:
    options = parser.parse_args(["--model", "here", "--port", "82", "--no-is-exact"])
    assert read_settings(Service, options, file=file) == Service(
        model="here", port=82, wires=False, is_exact=False, weights={"short": 0.5}
    )


def test_other_options_of_the_command_are_no_settings(parser: Parser, file: Path) -> None:
    parser.add_argument("--config")
    options = parser.parse_args(["--model", "here", "--config", "x"])
    assert read_settings(Service, options, file=file).port == 81


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        pytest.param("port = 0", [], "service.toml: port: 0: Input should", id="file"),
        pytest.param("prot = 1", [], "service.toml: prot: unknown key; did you", id="typo"),
        pytest.param(
            "port = 1",
            ["--dtype", "int8"],
            "service.toml under the command line: dtype: 'int8'",
            id="flag",
        ),
        pytest.param("port = ", [], "service.toml: malformed TOML", id="no TOML"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    parser: Parser, tmp_path: Path, content: str, flags: list[str], words: str
) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'model = "here"\n{content}')
    options = parser.parse_args(["--model", "here", *flags])
    if not flags:
        del options.model
    with pytest.raises(SettingsError) as caught:
        read_settings(Service, options, file=path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_tells_choices_and_defaults(parser: Parser) -> None:
    told = " ".join(parser.format_help().split())
    assert "--dtype {auto,float32} Arithmetic. Default: auto." in told
    assert "Names of layers. Default: query,key." in told
    assert "what the model was built for if left out. --layers" in told
    assert "--wires, --no-wires Whether more is served. Default: True." in told
    assert "examples:" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--port", "0"], "port: '0': Input should be greater", id="range"),
        pytest.param(["--dtype", "int8"], "dtype: 'int8': Input should be 'auto'", id="choice"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(
    parser: Parser, arguments: list[str], words: str
) -> None:
    options = parser.parse_args(["--model", "here", *arguments])
    with pytest.raises(SettingsError, match=words):
        read_settings(Service, options)


def test_bad_usage_is_one_line_and_exit_code_2(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parser.parse_args([])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error == "serve: the following arguments are required: --model; see serve --help\n"


def test_a_key_is_read_without_the_white_space_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_KEY", " s3cret\n")
    assert read_key("REWARD_KEY") == "s3cret"


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_variable_without_a_key_is_one_line(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("REWARD_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("REWARD_KEY", value)
    with pytest.raises(UserError, match=r"^--api-key-env: REWARD_KEY is not set; export it with"):
        read_key("REWARD_KEY")
