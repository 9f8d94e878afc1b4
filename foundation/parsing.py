"""Argument parsers whose errors are one line, and flags made from settings."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foundation.errors import UserError
from foundation.settings import check, read_toml


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` with examples below its help and errors in one line."""

    def __init__(self, prog: str, description: str, *, examples: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


S = TypeVar("S", bound=BaseModel)


def add_settings(parser: Parser, model: type[BaseModel]) -> None:
    """One flag a field of ``model``, with the field's docstring as its help.

    A table, which no flag can hold, is left to a settings file.
    """
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is dict:
            continue
        if field.annotation is bool:
            parser.add_argument(
                _flag(name),
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=_help(field),
            )
            continue
        parser.add_argument(
            _flag(name),
            required=field.is_required(),
            default=argparse.SUPPRESS,
            metavar=_metavar(field),
            help=_help(field),
        )


def read_settings(model: type[S], options: argparse.Namespace, *, file: Path | None = None) -> S:
    """The settings that :func:`add_settings` made flags for, laid over those of a TOML file.

    Raises:
        SettingsError: one line naming the flag or file, the value and the fix.
    """
    given = {name: value for name, value in vars(options).items() if name in model.model_fields}
    if file is None:
        return check(model, given, source="command line")
    source = f"{file} under the command line" if given else str(file)
    return check(model, read_toml(file) | given, source=source)


def read_key(variable: str | None) -> str | None:
    """The key in the environment variable that ``--api-key-env`` names, without white space.

    Raises:
        UserError: if the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"--api-key-env: {variable} is not set; export it with the server's key")
    return key


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).replace("``", "").replace("%", "%%")
    if field.is_required() or field.default is None:
        return text
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    return f"{text} Default: {default}."


def _metavar(field: FieldInfo) -> str:
    """The choices of a closed set, else that there is a value."""
    closed = get_origin(field.annotation) is Literal
    return f"{{{','.join(get_args(field.annotation))}}}" if closed else "VALUE"
