"""Run folders made by hand, with what is documented of them and nothing else; and suites."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from policy.config import PolicyEngineConfig
from policy.deploy import Canary, write_canaries

CANARY = Canary((1, 2), (3, 4), (-1.0, -2.0), (-1.5, -2.5))
OPTIONS = {"A": "Rest", "B": "Tea", "C": "Ice"}
HELDOUT = 6


def make_run(folder: Path, *, version: str = "r2", **changes: Any) -> Path:
    """A finished run on the clinic world whose policies are empty files with one canary."""
    base, adapter = folder / "policies" / "base", folder / "policies" / version
    for path in (base, adapter):
        path.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights of r2")
    write_canaries(adapter, [CANARY])
    write_config(folder)
    write_summary(folder, version=version, **changes)
    return folder


def copy_run(folder: Path, *, base: Path, adapter: Path, engine: dict[str, Any]) -> Path:
    """A finished run whose policies are real."""
    shutil.copytree(base, folder / "policies" / "base")
    shutil.copytree(adapter, folder / "policies" / "r1")
    write_config(folder, engine=engine, max_tokens=24)
    write_summary(folder, version="r1")
    return folder


def write_config(
    folder: Path,
    *,
    engine: dict[str, Any] | None = None,
    max_tokens: int = 32,
    data: dict[str, Any] | None = None,
) -> None:
    """``config.json`` with the fields that are read, and one of those that are not."""
    clinic = {"world": "clinic", "path": None, "round_questions": 8, "heldout_questions": HELDOUT}
    sampling = {
        "candidates": 4,
        "heldout_candidates": 2,
        "temperature": 1.0,
        "top_p": 0.9,
        "max_tokens": max_tokens,
    }
    config = {
        "name": "by-hand",
        "seed": 3,
        "data": data or clinic,
        "policy": {
            "model": None,
            "engine": PolicyEngineConfig.model_validate(engine or {}).model_dump(mode="json"),
        },
        "sampling": sampling,
        "preference": {"lora": {"rank": 8, "alpha": 16}},
    }
    (folder / "config.json").write_text(json.dumps(config))


def write_summary(folder: Path, *, version: str, status: str = "completed") -> None:
    """``summary.json`` as it is documented, without rounds."""
    level = {"proxy_reward": 0.1, "gold": 0.4, "length_tokens": 50.0}
    summary: dict[str, Any] = {
        "run": "by-hand",
        "status": status,
        "error": None,
        "seed": 3,
        "world": "clinic",
        "reference": "base",
        "baseline": level,
        "rounds": [],
        "final": level
        | {"policy_version": version, "gold": 0.7, "gold_gain": 0.3, "gold_gain_ci95": [0.2, 0.4]},
        "reward_model": {
            "fingerprint": "f",
            "heldout_accuracy": 0.9,
            "length_only_accuracy": 0.5,
        },
        "seconds": 60.0,
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def write_suite(folder: Path, count: int = 4, name: str = "dev.json") -> Path:
    """Questions ``q0``, ``q1``, … in MIRAGE's layout whose right answers are A, B, C, A, …"""
    path = folder / name
    questions = {
        f"id{n}": {"question": f"Is it q{n} ?", "options": OPTIONS, "answer": "ABC"[n % 3]}
        for n in range(count)
    }
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path
