from __future__ import annotations

import pytest

from benchmarks.throughput import job
from benchmarks.throughput.options import METHODS, WORKLOADS, ThroughputConfig
from foundation.errors import UserError
from foundation.settings import SettingsError, check
from medpref.commands import bench


def test_by_default_everything_is_compared() -> None:
    config = ThroughputConfig()
    assert config.methods == METHODS
    assert config.workloads == WORKLOADS
    assert (config.conversation, config.candidate_tokens) == (200, (60, 190))


def test_the_large_shape_has_longer_conversations() -> None:
    config = ThroughputConfig(shape="llama-8b")
    assert (config.conversation, config.candidate_tokens) == (500, (300, 300))
    assert ThroughputConfig(shape="llama-8b", conversation_tokens=90).conversation == 90


def test_names_are_split_at_commas() -> None:
    config = check(
        ThroughputConfig,
        {"methods": "engine,transformers_single", "workloads": "single"},
        source="command line",
    )
    assert config.methods == ("engine", "transformers_single")
    assert config.workloads == ("single",)
    assert not config.needs_folder


def test_a_method_behind_http_needs_the_model_on_disk() -> None:
    assert ThroughputConfig(methods=("engine", "vllm_pooling_warm")).needs_folder


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param({"methods": "magic"}, "methods", id="method"),
        pytest.param({"workloads": "best_of_3"}, "workloads", id="workload"),
        pytest.param({"candidate_tokens_min": "500"}, "candidate_tokens_max 190", id="range"),
    ],
)
def test_what_cannot_be_is_refused_by_name(content: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check(ThroughputConfig, content, source="command line")


def test_an_output_without_a_folder_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UserError, match="--output"):
        bench.main(["throughput", "--output", "/no/such/folder/throughput.json"])


def test_the_command_names_its_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(["speed"])
    assert stopped.value.code == 2
    assert "throughput" in capsys.readouterr().err


def test_the_cpu_is_named_by_its_first_processor() -> None:
    text = "processor\t: 0\nmodel name\t: Fast One\nprocessor\t: 1\nmodel name\t: Slow One\n"
    assert job.cpu_name(text) == "Fast One"
