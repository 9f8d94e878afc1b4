"""The lock is what everybody installs, so it must hold what the project says it needs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("train", "cpu", "dev")


def wanted() -> Iterator[str]:
    yield from PROJECT["dependencies"]
    for extra in EXTRAS:
        yield from PROJECT["optional-dependencies"][extra]


def read_requirements(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, _, version in pins}


LOCK = read_requirements("cpu.lock")


@pytest.mark.parametrize("text", sorted(set(wanted())))
def test_the_lock_holds_what_the_project_needs(text: str) -> None:
    requirement = Requirement(text)
    if requirement.name == PROJECT["name"]:  # an extra made of other extras
        return
    assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)])


def test_the_lock_pins_everything_that_it_was_made_of() -> None:
    given = read_requirements("cpu.in")
    assert given.keys() <= LOCK.keys()
    assert all(not version or LOCK[name] == version for name, version in given.items())
    assert all(LOCK.values())


def test_what_would_break_the_cpu_build_of_torch_is_left_out() -> None:
    assert LOCK.keys().isdisjoint({"torchvision", "torchaudio", "torchcodec"})
