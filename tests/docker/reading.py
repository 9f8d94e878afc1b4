"""Reads the container files as Docker and Compose would, as far as this repository uses them.

What is not used here (heredocs, ADD, nested variables, ``.dockerignore`` wildcards inside names) is
not understood, and a file that begins to use it fails to read.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
DEVICES = ("cpu", "gpu")

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::-([^}]*))?\})")
URL = re.compile(r"https?://[^\s'\"]+")


def load_compose(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The compose file with its variables filled in, from an empty environment if none is given."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return {key: _filled(value, environment or {}) for key, value in content.items()}


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, environment) for inner in value]
    if not isinstance(value, str):
        return value
    assert "$" not in VARIABLE.sub("", value), (
        f"{value!r}: not a form of variable that is used here"
    )
    return VARIABLE.sub(lambda found: _value(found, environment), value)


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    dollar, name, default = found.groups()
    return "$" if dollar else environment.get(name) or default or ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; ``flags`` are its leading ``--name=value``, a repeated one as a list."""

    name: str
    flags: tuple[tuple[str, str], ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Image:
    """What one Dockerfile builds for one value of DEVICE."""

    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        return [step for step in self.instructions if step.name == name]

    def last(self, name: str) -> str:
        """The rest of the last instruction of that name: the one that counts."""
        return self.all(name)[-1].rest

    @property
    def entrypoint(self) -> list[str]:
        return list(json.loads(self.last("ENTRYPOINT")))

    @property
    def variables(self) -> dict[str, str]:
        pairs = (shlex.split(step.rest) for step in self.all("ENV"))
        return dict(pair.split("=", 1) for line in pairs for pair in line)

    @property
    def left_out(self) -> list[str]:
        """Packages of the lock that this image does without."""
        values = (step.rest for step in self.all("ARG") if step.rest.startswith("LEFT_OUT="))
        return [name for value in values for name in shlex.split(value)[0][9:].split("|")]

    @property
    def health_url(self) -> str | None:
        found = URL.search(self.last("HEALTHCHECK"))
        return found[0] if found else None

    @property
    def sources(self) -> list[str]:
        """What it takes from the build context."""
        copied = (source for step in self.all("COPY") for source in step.rest.split()[:-1])
        mounts = (
            dict(part.partition("=")[::2] for part in value.split(","))
            for step in self.all("RUN")
            for flag, value in step.flags
            if flag == "mount"
        )
        bound = (mount.get("source", ".") for mount in mounts if mount["type"] == "bind")
        return [*copied, *bound]


def read_image(dockerfile: Path, device: str) -> Image:
    """The last stage on top of the stage that DEVICE names."""
    parts: list[list[Instruction]] = [[]]
    for step in _instructions(dockerfile.read_text(encoding="utf-8")):
        if step.name == "FROM":
            parts.append([])
        parts[-1].append(step)
    stages = {step.rest.partition(" AS ")[2]: (step, *rest) for step, *rest in parts[1:]}
    last, *steps = stages[""]
    below, *inherited = stages[last.rest.replace("${DEVICE}", device)]
    return Image(below.rest.partition(" AS ")[0], (*inherited, *steps))


def _instructions(text: str) -> list[Instruction]:
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = without_comments.replace("\\\n", "").splitlines()
    return [_instruction(line) for line in lines if line.strip()]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    flags = []
    while found := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
        flags.append((found[1], found[2]))
        rest = rest[found.end() :]
    return Instruction(name, tuple(flags), rest.strip())


def reaches_build(path: str) -> bool:
    """Whether ``.dockerignore`` lets a file into the build context: the last match decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = True
    for line in (line for line in lines if line and not line.startswith("#")):
        if _matches(line.removeprefix("!"), path):
            let_in = line.startswith("!")
    return let_in


def _matches(pattern: str, path: str) -> bool:
    """Whether the pattern names the path or a folder above it; ``**/`` is any folders above."""
    parts = path.split("/")
    above = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    if pattern.startswith("**/"):
        return any(fnmatchcase(part, pattern[3:]) for part in parts)
    return any(
        fnmatchcase(folder, pattern) and folder.count("/") == pattern.count("/") for folder in above
    )
