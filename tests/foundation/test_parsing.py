from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from foundation.parsing import Parser, add_settings, read_settings
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


@pytest.fixture
def parser() -> Parser:
    parser = Parser("serve", "Serves.", examples="  serve --model here")
    add_settings(parser, Service)
    return parser


def test_what_is_given_is_read_and_the_rest_has_its_default(parser: Parser) -> None:
    options = parser.parse_args(["--model", "here", "--port", "81"])
    assert read_settings(Service, options) == Service(model="here", port=81)


def test_the_help_tells_choices_and_defaults(parser: Parser) -> None:
    told = " ".join(parser.format_help().split())
    assert "--dtype {auto,float32} Arithmetic. Default: auto." in told
    assert "Names of layers. Default: query,key." in told
    assert "what the model was built for if left out. --layers" in told
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
