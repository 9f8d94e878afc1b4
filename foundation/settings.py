"""Settings: a TOML file under ``key=value`` overrides, checked into one frozen pydantic model.

Whatever does not fit is one line that names source, field, value and fix.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

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
    keys, owner = _follow(model, error["loc"])
    field = ".".join(keys)
    if error["type"] == "extra_forbidden":
        return f"{field}: unknown key; {_suggestion(owner, keys[-1])}"
    if error["type"] == "missing":
        return f"{field}: missing; add it"
    message = error["msg"].removeprefix("Value error, ").replace("\n", " ")
    if isinstance(error["input"], Mapping):  # a rule between fields: the message names them
        return f"{field}: {message}" if field else message
    return f"{field}: {error['input']!r}: {message}"


def _suggestion(owner: Any, key: str) -> str:
    known = [name for each in _alternatives(owner) for name in getattr(each, "model_fields", ())]
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _follow(kind: Any, location: Sequence[int | str]) -> tuple[list[str], Any]:
    """The keys of a location as a file has them, and the type that the last one belongs to.

    Pydantic's locations also have the tag of each union's member, which no file has.
    """
    keys: list[str] = []
    owner = kind
    for part in location:
        tagged = _tagged(kind, part)
        if tagged is not None:
            kind = tagged
            continue
        keys.append(str(part))
        owner, kind = kind, _inside(kind, part)
    return keys, owner


def _tagged(kind: Any, tag: int | str) -> Any:
    """The member of a union that one of its fields tells by ``tag``; ``None`` if there is none."""
    members = _alternatives(kind)
    for member in members if len(members) > 1 else ():
        fields = getattr(member, "model_fields", {}).values()
        if any(
            get_origin(each.annotation) is Literal and tag in get_args(each.annotation)
            for each in fields
        ):
            return member
    return None


def _inside(kind: Any, part: int | str) -> Any:
    """The type of what lies under a key, or at a place, of a value of type ``kind``."""
    for each in _alternatives(kind):
        field = getattr(each, "model_fields", {}).get(str(part))
        if field is not None:
            return field.annotation
        inner = get_args(each)
        if inner:  # of a mapping the values, of a sequence the items
            return inner[-1] if isinstance(part, str) else inner[0]
    return None


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union; of anything else, itself."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [each for member in get_args(kind) for each in _alternatives(member)]
    return [kind]
