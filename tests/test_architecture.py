"""Floors and arrows: an import runs down, never up or sideways; clients carry no heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "foundation": 0,
    "corpora": 1,
    "reward_server": 2,
    "policy": 2,
    "loop": 3,
    "benchmarks": 3,
    "medpref": 4,
}
HEAVY = {"torch", "vllm", "ray", "transformers", "trl"}
LIGHT_MODULES = [
    "reward_server.protocol",
    "reward_server.client",
    "reward_server.specs",
    "reward_server.config",
    "reward_server.calibration",
    "reward_server.canary",
    "reward_server.drift",
    "reward_server.keyfile",
    "reward_server.audit",
    "reward_server.audit_record",
    "reward_server.bulk",
    "reward_server.tokens",
    "reward_server.planner",
    "reward_server.integrations.best_of_n",
    "policy.protocol",
    "policy.client",
    "corpora.worlds",
    "foundation.settings",
    "loop.config",
    "benchmarks.endpoints.open",
    "benchmarks.evaluation.job",
    "benchmarks.qa.job",
    "benchmarks.compare",
    "medpref.cli",
    "medpref.commands.bench",
    "medpref.commands.score",
    "medpref.commands.keys",
    "medpref.commands.replay",
    "medpref.commands.calibrate",
]
# What the loop and the benchmarks may reach of a service: its clients, its wire types, its
# settings and errors, and the entry points that launch, deploy and train.
FACES = {
    "reward_server": {
        "client",
        "protocol",
        "errors",
        "config",
        "specs",
        "local",
        "integrations.best_of_n",
        "training",
        "training_config",
    },
    "policy": {
        "client",
        "protocol",
        "errors",
        "config",
        "server",
        "deploy",
        "training.config",
        "training.scratch",
        "training.sft",
        "training.preference",
    },
}


def arrows() -> list[tuple[str, str, str]]:
    """Every import between two rooms: file, room, imported module."""
    return [
        (str(file.relative_to(ROOT)), room, module)
        for room in FLOORS
        for file in sorted((ROOT / room).rglob("*.py"))
        for module in imported_modules(file)
        if module.split(".")[0] in FLOORS and module.split(".")[0] != room
    ]


def imported_modules(file: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            parent = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (parent / f"{alias.name}.py").exists() or (parent / alias.name).is_dir()
                modules.append(f"{node.module}.{alias.name}" if is_module else node.module)
    return modules


def test_every_room_is_there() -> None:
    assert {room for room in FLOORS if (ROOT / room / "__init__.py").is_file()} == set(FLOORS)


def test_every_arrow_points_down() -> None:
    wrong = [
        f"{file} imports {module}"
        for file, room, module in arrows()
        if FLOORS[module.split(".")[0]] >= FLOORS[room]
    ]
    assert wrong == []


def test_the_drivers_reach_the_services_by_their_faces_only() -> None:
    wrong = [
        f"{file} imports {module}"
        for file, room, module in arrows()
        if room in ("loop", "benchmarks")
        and (face := module.partition("."))[0] in FACES
        and face[2] not in FACES[face[0]]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
