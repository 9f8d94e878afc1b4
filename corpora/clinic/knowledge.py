"""The knowledge base: what is true of each condition, read from the data files beside this module.

Invariants: every list holds three or four short phrases; no phrase is said twice of one condition;
no phrase holds a comma or the words *and* and *or*, so that a list of phrases can be told apart
again. Conditions are ordered by slug, whatever file they come from.

Knows nothing of questions, answers or grades.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from corpora.errors import CorpusError

CONDITIONS = Path(__file__).with_name("conditions")
"""Folder of the bundled data files."""

_PHRASE = r"^(?!.*\b(?:and|or)\b)[A-Za-z0-9][A-Za-z0-9 ]*[A-Za-z0-9]$"
Phrase = Annotated[str, StringConstraints(strict=True, pattern=_PHRASE, max_length=40)]
Facts = Annotated[tuple[Phrase, ...], Field(min_length=3, max_length=4)]


class Intent(StrEnum):
    """What a question wants to know. The value is the field of :class:`Condition` that answers."""

    CAUSES = "causes"
    SYMPTOMS = "symptoms"
    SELF_CARE = "self_care"
    RED_FLAGS = "red_flags"
    WHEN_TO_SEEK_HELP = "when_to_seek_help"
    PREVENTION = "prevention"
    RISK = "risk"
    TRIGGERS = "triggers"

    @property
    def needs_safety_advice(self) -> bool:
        """Whether a good answer also says which sign calls for urgent help."""
        return self not in {Intent.CAUSES, Intent.PREVENTION, Intent.RISK}


class Condition(BaseModel):
    """One condition. Every list is made of noun phrases that fit into a sentence."""

    # A regular expression with a look-ahead needs Python's engine.
    model_config = ConfigDict(frozen=True, extra="forbid", regex_engine="python-re")

    slug: str
    system: str
    """Where in the body: the name of the file that the condition stands in."""
    name: Phrase
    """As it stands in a sentence: ``the flu``, ``migraine``."""
    causes: Facts
    symptoms: Facts
    self_care: Facts
    red_flags: Facts
    """Signs that call for urgent help."""
    when_to_seek_help: Facts
    """Reasons to see a doctor that are not urgent."""
    prevention: Facts
    risk: Facts
    """Who gets it more often."""
    triggers: Facts
    """What makes it worse."""

    def facts(self, intent: Intent) -> tuple[str, ...]:
        facts: tuple[str, ...] = getattr(self, intent.value)
        return facts


class Combo(NamedTuple):
    """A condition and an intent: the unit that is split, asked about and answered."""

    slug: str
    intent: Intent


@dataclass(frozen=True)
class Knowledge:
    """All conditions, ordered by slug."""

    conditions: tuple[Condition, ...]

    @cached_property
    def by_slug(self) -> Mapping[str, Condition]:
        return {condition.slug: condition for condition in self.conditions}

    @cached_property
    def combos(self) -> tuple[Combo, ...]:
        return tuple(Combo(c.slug, intent) for c in self.conditions for intent in Intent)

    def facts(self, combo: Combo) -> tuple[str, ...]:
        return self.by_slug[combo.slug].facts(combo.intent)


def load_knowledge(folder: Path = CONDITIONS) -> Knowledge:
    """Reads every ``*.toml`` of a folder; each of its tables is one condition, its key the slug.

    Raises:
        CorpusError: naming file, condition and field of the first thing that does not fit.
    """
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise CorpusError(f"{folder}: no *.toml file in it; point to a folder of condition files")
    found: dict[str, Condition] = {}
    for path in paths:
        for condition in _read_file(path):
            if condition.slug in found:
                raise CorpusError(f"{path}: [{condition.slug}] is defined twice; remove one")
            found[condition.slug] = condition
    return Knowledge(tuple(found[slug] for slug in sorted(found)))


def _read_file(path: Path) -> Iterator[Condition]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CorpusError(f"{path}: not valid TOML: {error}") from error
    for slug, table in tables.items():
        yield _read_condition(f"{path}: [{slug}]", {"slug": slug, "system": path.stem}, table)


def _read_condition(where: str, place: Mapping[str, str], table: Any) -> Condition:
    if not isinstance(table, dict):
        raise CorpusError(f"{where}: expected a table, got {table!r}")
    try:
        condition = Condition.model_validate({**table, **place})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"{where}.{field}: {first['msg']}, got {first['input']!r}") from error
    _check_said_once(where, condition)
    return condition


def _check_said_once(where: str, condition: Condition) -> None:
    fields: dict[str, Intent] = {}
    for intent in Intent:
        for fact in condition.facts(intent):
            if fact in fields:
                raise CorpusError(f"{where}.{intent}: {fact!r} is already said in {fields[fact]}")
            fields[fact] = intent
