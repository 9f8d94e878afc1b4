"""The settings of a run as a recipe: TOML that ``medpref align`` takes again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping


def to_recipe(settings: Mapping[str, object]) -> str:
    """Writes plain settings as TOML; what is ``None`` is left out, for that is the default.

    Args:
        settings: JSON content whose keys are bare words.
    """
    return "\n".join(_table(settings, path=())).strip() + "\n"


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"\n[{'.'.join(path)}]"
    sections = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if value is not None and key not in sections:
            yield f"{key} = {_value(value)}"
    for key, section in sections.items():
        yield from _table(section, (*path, key))


def _value(value: object) -> str:
    """JSON writes numbers, truth values, text and lists as TOML does, but for the DEL character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
