from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.quickstart import _looks, _measured


def summary(**final: Any) -> dict[str, Any]:
    level = {"proxy_reward": -1.0, "gold": 0.5, "length_tokens": 40.0}
    deploy = {"seconds": 0.25, "requests": 9, "failed_requests": 0}
    refused = {"seconds": None, "requests": 4, "failed_requests": 1}
    return {
        "seed": 3,
        "baseline": level,
        "rounds": [
            {"gate": {"decision": "promoted"}, "deploy": deploy},
            {"gate": {"decision": "refused"}, "deploy": refused},
        ],
        "final": {**level, "policy_version": "r1", "gold_gain_ci95": [0.1, 0.2], **final},
        "reward_model": {"heldout_accuracy": 0.9, "length_only_accuracy": 0.5},
    }


def test_a_run_is_measured_from_its_summary() -> None:
    measured = _measured(summary(length_tokens=44.0, gold=0.7), 300.0, 2 * 2**30)
    assert measured.length_growth == pytest.approx(0.1)
    assert (measured.base_gold, measured.final_gold) == (0.5, 0.7)
    assert (measured.promoted, measured.served) == (1, "r1")
    assert measured.deploy_seconds == [0.25]
    assert (measured.requests_in_flight, measured.failed_requests) == (13, 1)
    assert measured.peak_gib == 2.0


def test_memory_counts_the_descendants_of_a_command_until_it_ends() -> None:
    held = 64 * 2**20
    program = (
        "import os, subprocess, sys; "
        f"child = 'block = bytearray(b\"x\" * {held}); input()'; "
        "subprocess.run([sys.executable, '-c', child])"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=dict(os.environ)) as process:
        peak = 0
        for look in _looks(process):
            peak = max(peak, look)
            if peak > held and process.stdin and not process.stdin.closed:
                process.stdin.close()  # the child reads its end and everything ends
    assert peak > held
