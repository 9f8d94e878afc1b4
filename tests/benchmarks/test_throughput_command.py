from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import sys; from medpref.commands.bench import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.integration
@pytest.mark.slow
def test_the_command_ends_with_one_document_of_numbers_that_count(tmp_path: Path) -> None:
    output = tmp_path / "throughput.json"
    flags = {
        "shape": "tiny",
        "methods": "transformers_single,transformers_sorted",
        "workloads": "best_of_4,single",
        "groups": 2,
        "repeats": 2,
        "threads": 1,
        "latency-requests": 8,
        "output": output,
    }
    command = [
        *(sys.executable, "-c", PROGRAM, "throughput"),
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout.splitlines()[-1])
    assert document == json.loads(output.read_text(encoding="utf-8"))
    for name in ("best_of_4", "single"):
        workload = document["workloads"][name]
        for method in ("transformers_single", "transformers_sorted"):
            numbers = workload[method]
            assert numbers["tokens_per_s"] >= numbers["unique_tokens_per_s"] > 0
            assert len(numbers["seconds"]) == 2
            assert numbers["max_error"] <= workload["tolerance"]
        assert workload["engine"] is None
        assert workload["agreement"]["transformers_single~transformers_sorted"]
    assert document["workloads"]["best_of_16"] is None
    assert document["latency"]["bare_forward_p50_ms"] > 0
    assert document["ceiling_unique_tokens_per_s"] > 0
    assert document["versions"]["torch"]
    assert document["machine"]["cores"] >= 1
    assert "best_of_4" in ran.stdout
    assert "truth.computing" in ran.stderr
