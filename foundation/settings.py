"""Settings: a TOML file under ``key=value`` overrides, checked into one frozen pydantic model.

Whatever does not fit is one line that names source, field, value and fix.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from foundation.errors import UserError


class SettingsError(UserError):
    """A settings file or an override cannot be used."""


class Settings(BaseModel):
    """Base of every settings model: frozen; an unknown key and a number without end are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


S = TypeVar("S", bound=BaseModel)


def load_settings(model: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Reads ``path``, lays ``overrides`` over it and checks the result.

    Args:
        model: what the settings must fit.
        path: a TOML file.
        overrides: ``section.key=value``; the value is TOML, or text where it is not.

    Raises:
        SettingsError: one line naming the file or override, the field, the value and the fix.
    """
    content = read_toml(path)
    for override in overrides:
        apply_override(content, override)
    return check(model, content, source=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        SettingsError: if it is missing, not a file, or malformed.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; give the path of a recipe (*.toml)") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as a TOML file: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: malformed TOML: {error}") from None


def apply_override(content: dict[str, Any], override: str) -> None:
    """Sets one ``section.key=value`` in place.

    Raises:
        SettingsError: if there is no ``=``, or a section on the way is a plain value.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SettingsError(f"--set {override}: write it as section.key=value")
    *sections, field = key.strip().split(".")
    table = content
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"--set {override}: {section} is a value, not a section")
    table[field] = _value(text.strip())


def check(model: type[S], content: Mapping[str, Any], *, source: str) -> S:
    """Builds ``model`` from plain content.

    Raises:
        SettingsError: one line about the first problem found.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_problem(model, error.errors()[0])}") from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _problem(model: type[BaseModel], error: ErrorDetails) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{field}: unknown key; {_suggestion(model, error['loc'])}"
    if error["type"] == "missing":
        return f"{field}: missing; add it"
    message = error["msg"].removeprefix("Value error, ").replace("\n", " ")
    if isinstance(error["input"], Mapping):  # a rule between fields: the message names them
        return f"{field}: {message}" if field else message
    return f"{field}: {error['input']!r}: {message}"


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    known = _fields_at(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
