from __future__ import annotations

import json
import math
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from benchmarks.throughput.ceiling import Ceiling, Product
from benchmarks.throughput.correctness import Truth
from benchmarks.throughput.latency import Load
from benchmarks.throughput.options import METHODS, WORKLOADS, MethodName
from benchmarks.throughput.report import (
    NOT_ASKED,
    LatencyRun,
    Run,
    WorkloadRun,
    document,
    notes,
    tables,
)
from benchmarks.throughput.timing import Outcome, Timed
from benchmarks.throughput.workloads import Draw, Rendered
from corpora.conversation import Conversation
from reward_server.protocol import ScoreGroup

GROUP = ScoreGroup.of("q1", Conversation.ask("What helps a stuffy nose?"), ["Rest.", "Steam."])
DRAW = Draw((GROUP,), (Rendered((1, 2, 3), ((1, 2, 3, 4), (1, 2, 3, 5, 6))),))  # 9 tokens, 6 unique
RIGHT = [1.0, -1.0]


def outcome(*seconds: float, rewards: list[float] = RIGHT, failure: str | None = None) -> Outcome:
    return Outcome("as it is", [Timed(each, rewards) for each in seconds], failure)


def run(**outcomes: Outcome) -> Run:
    named: dict[MethodName, Outcome] = {
        name: outcomes[name] for name in METHODS if name in outcomes
    }
    latency = LatencyRun(
        idle={"bare_forward": [0.010, 0.012], "http": [0.013, 0.015]},
        capacity_per_s=40.0,
        open_loop={"http": [Load(0.25, 10.0, 5, refused=1, seconds=[0.01] * 4)]},
    )
    ceilings = [Ceiling(2048, {Product(8, 8, 4): seconds}) for seconds in (0.256, 0.512, 0.128)]
    workload = WorkloadRun(2, [DRAW, DRAW, DRAW], named, Truth(RIGHT, RIGHT), ceilings)
    return Run(
        about={"dtype": "float32"},
        workloads={"best_of_8": workload},
        latency=latency,
        unavailable={"vllm_pooling_cold": "MethodFailed: vLLM is not installed"},
    )


def content(**outcomes: Outcome) -> dict[str, Any]:
    return document(run(**outcomes))


def test_every_workload_and_every_method_has_its_name() -> None:
    made = content(engine=outcome(1.0, 1.0, 1.0))
    assert list(made["workloads"]) == list(WORKLOADS)
    assert set(METHODS) <= set(made["workloads"]["best_of_8"])
    assert made["ceiling_unique_tokens_per_s"] == pytest.approx(2048 / (4 * 0.256))
    assert made["latency"]["idle_http_p50_ms"] == pytest.approx(14.0)
    assert made["latency"]["bare_forward_p50_ms"] == pytest.approx(11.0)
    assert made["dtype"] == "float32"


def test_rates_are_medians_of_the_repetitions_and_the_spread_stands_beside() -> None:
    numbers = content(engine=outcome(1.0, 3.0, 9.0))["workloads"]["best_of_8"]["engine"]
    assert numbers["tokens_per_s"] == 3.0
    assert numbers["unique_tokens_per_s"] == 2.0
    assert (numbers["tokens_per_s_min"], numbers["tokens_per_s_max"]) == (1.0, 9.0)


def test_a_repetition_is_held_against_the_ceiling_of_its_own_moment() -> None:
    numbers = content(engine=outcome(1.0, 2.0, 0.25))["workloads"]["best_of_8"]["engine"]
    # 6, 3 and 24 unique tokens a second of 2000, 1000 and 4000
    assert numbers["of_ceiling"] == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(outcome(1.0, 1.0, 1.0, rewards=[1.5, -1.0]), "off by 0.5", id="wrong"),
        pytest.param(outcome(1.0, 1.0, 1.0, rewards=[math.nan, 0]), "no finite", id="no reward"),
        pytest.param(outcome(1.0, failure="OSError: gone"), "OSError: gone", id="failed"),
    ],
)
def test_a_method_that_does_not_count_is_null_and_says_why(bad: Outcome, why: str) -> None:
    made = content(engine=outcome(1.0, 1.0, 1.0), http=bad)
    assert made["workloads"]["best_of_8"]["http"] is None
    assert why in made["skipped"]["workloads.best_of_8.http"]
    assert made["workloads"]["best_of_8"]["engine"] is not None
    assert made["workloads"]["best_of_8"]["agreement"] == {}


def test_what_was_not_tried_says_why() -> None:
    made = content(engine=outcome(1.0, 1.0, 1.0))
    skipped = made["skipped"]
    assert made["workloads"]["single"] is None
    assert skipped["workloads.single"] == NOT_ASKED
    assert skipped["workloads.best_of_8.http"] == NOT_ASKED
    assert "vLLM is not installed" in skipped["workloads.best_of_8.vllm_pooling_cold"]
    assert "vLLM is not installed" in skipped["latency.idle_vllm_p50_ms"]
    assert list(notes(made)) == [
        f"{path}: {why}" for path, why in skipped.items() if why != NOT_ASKED
    ]


def test_methods_that_count_are_compared() -> None:
    made = content(
        engine=outcome(1.0, 1.0, 1.0), http=outcome(1.0, 1.0, 1.0, rewards=[1.0005, -1.0])
    )
    agreement = made["workloads"]["best_of_8"]["agreement"]["engine~http"]
    assert agreement["max_abs_diff"] == pytest.approx(0.0005)
    assert agreement["rank_agreement"] == 1.0


def test_the_document_is_strict_json() -> None:
    made = content(engine=outcome(1.0, 1.0, 1.0, rewards=[math.inf, 1.0]))
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_refused_requests_are_counted() -> None:
    load = content()["latency"]["open_loop"][0]
    assert (load["answered"], load["refused"], load["failed"]) == (4, 1, 0)
    assert load["p50_ms"] == pytest.approx(10.0)


def test_the_tables_show_every_method() -> None:
    made = content(engine=outcome(1.0, 1.0, 1.0))
    out = StringIO()
    console = Console(file=out, width=120)
    for table in tables(made):
        console.print(table)
    text = out.getvalue()
    for shown in (*METHODS, "best_of_8", "bare forward", "10.0/s (25%)", "TFLOP/s"):
        assert shown in text
