"""From measurements to the JSON document and the tables. Pure.

The names of the document are a face: whoever compares runs reads them. A method that gave no
number is ``null``, and ``skipped`` tells why under its path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import truediv
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.throughput.ceiling import Ceiling
from benchmarks.throughput.correctness import Agreement, Truth, agreements
from benchmarks.throughput.latency import Load, Percentiles, percentiles
from benchmarks.throughput.options import EVERY_METHOD, METHODS, WORKLOADS, MethodName, WorkloadName
from benchmarks.throughput.timing import Outcome
from benchmarks.throughput.workloads import Draw

NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class WorkloadRun:
    """One workload: what was scored, what came of it, and what is right."""

    candidates: int
    draws: Sequence[Draw]
    outcomes: Mapping[MethodName, Outcome]
    truth: Truth
    ceilings: Sequence[Ceiling]
    """The matrix products alone, timed before each repetition."""


@dataclass
class LatencyRun:
    """Seconds of single requests by way, and the open loops of each server."""

    idle: dict[str, list[float]] = field(default_factory=dict)
    capacity_per_s: float | None = None
    open_loop: dict[str, list[Load]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that was measured."""

    about: Mapping[str, Any]
    """Fields of the document that are known beforehand: settings, model, machine, versions."""

    workloads: Mapping[WorkloadName, WorkloadRun]
    latency: LatencyRun
    unavailable: Mapping[str, str]
    """Why a method, or ``latency``, could not be tried at all."""

    @property
    def ceiling(self) -> Ceiling:
        """The median of all repetitions."""
        seen = [ceiling for workload in self.workloads.values() for ceiling in workload.ceilings]
        return sorted(seen, key=lambda ceiling: ceiling.tokens_per_s)[len(seen) // 2]


def document(run: Run) -> dict[str, Any]:
    """The JSON document; holds no number that is not finite."""
    skipped: dict[str, str] = {}
    ceiling = run.ceiling
    return {
        "workloads": {name: _workload(run, name, skipped) for name in WORKLOADS},
        "latency": _latency(run, skipped),
        "ceiling_unique_tokens_per_s": ceiling.tokens_per_s,
        "ceiling": {
            "tokens": ceiling.tokens,
            "tflops": ceiling.tflops,
            "products": [
                {**asdict(product), "seconds": seconds}
                for product, seconds in ceiling.seconds.items()
            ],
        },
        **run.about,
        "skipped": skipped,
    }


def _workload(run: Run, name: WorkloadName, skipped: dict[str, str]) -> dict[str, Any] | None:
    measured = run.workloads.get(name)
    if measured is None:
        skipped[f"workloads.{name}"] = NOT_ASKED
        return None
    entries = {method: _method(run, measured, method) for method in EVERY_METHOD}
    entries = {m: e for m, e in entries.items() if m in METHODS or isinstance(e, dict)}
    for method, entry in entries.items():
        if isinstance(entry, str):
            skipped[f"workloads.{name}.{method}"] = entry
    first, good = measured.draws[0], [m for m, entry in entries.items() if isinstance(entry, dict)]
    return {
        **{method: entry if isinstance(entry, dict) else None for method, entry in entries.items()},
        "groups": len(first.groups),
        "candidates": measured.candidates,
        "tokens": first.tokens,
        "unique_tokens": first.unique_tokens,
        "ceilings": [ceiling.tokens_per_s for ceiling in measured.ceilings],
        "plain_error": measured.truth.plain_error,
        "tolerance": measured.truth.tolerance,
        "agreement": {pair: asdict(one) for pair, one in _agreement(measured, good).items()},
    }


def _method(run: Run, measured: WorkloadRun, method: MethodName) -> dict[str, Any] | str:
    """The numbers of one method, or why there are none."""
    outcome = measured.outcomes.get(method)
    if outcome is None:
        return run.unavailable.get(method, NOT_ASKED)
    if outcome.failure is not None:
        return outcome.failure
    missing = sum(not math.isfinite(reward) for one in outcome.timed for reward in one.rewards)
    if missing:
        return f"{missing} inputs got no finite reward: a wrong method does not count"
    complaint = measured.truth.complaint(outcome.timed[0].rewards)
    return complaint or _numbers(measured, outcome)


def _numbers(measured: WorkloadRun, outcome: Outcome) -> dict[str, Any]:
    pairs = list(zip(measured.draws, outcome.seconds, strict=True))
    rates = [draw.tokens / seconds for draw, seconds in pairs]
    unique = [draw.unique_tokens / seconds for draw, seconds in pairs]
    ceilings = [ceiling.tokens_per_s for ceiling in measured.ceilings]
    return {
        "tokens_per_s": median(rates),
        "unique_tokens_per_s": median(unique),
        "tokens_per_s_min": min(rates),
        "tokens_per_s_max": max(rates),
        "of_ceiling": median(map(truediv, unique, ceilings)),
        "inputs_per_s": median(len(draw.inputs) / seconds for draw, seconds in pairs),
        "seconds": outcome.seconds,
        "choice": outcome.choice,
        "max_error": measured.truth.error(outcome.timed[0].rewards),
    }


def _agreement(measured: WorkloadRun, methods: Sequence[MethodName]) -> dict[str, Agreement]:
    rewards: dict[str, list[float]] = {
        method: [reward for one in measured.outcomes[method].timed for reward in one.rewards]
        for method in methods
    }
    width = measured.candidates if measured.candidates > 1 else len(measured.draws[0].inputs)
    return agreements(rewards, candidates=width)


def _latency(run: Run, skipped: dict[str, str]) -> dict[str, Any]:
    seen = {name: percentiles(seconds) for name, seconds in run.latency.idle.items()}
    entries = {
        "idle_http_p50_ms": _p50(seen.get("http")),
        "idle_http_p95_ms": _p95(seen.get("http")),
        "idle_engine_p50_ms": _p50(seen.get("engine")),
        "bare_forward_p50_ms": _p50(seen.get("bare_forward")),
        "bare_forward_p95_ms": _p95(seen.get("bare_forward")),
        "idle_vllm_p50_ms": _p50(seen.get("vllm_pooling")),
        "idle_vllm_p95_ms": _p95(seen.get("vllm_pooling")),
        "capacity_requests_per_s": run.latency.capacity_per_s,
        "open_loop": _loads(run.latency.open_loop.get("http")),
        "open_loop_vllm": _loads(run.latency.open_loop.get("vllm_pooling")),
    }
    for name, entry in entries.items():
        if entry is None:
            skipped[f"latency.{name}"] = _why_no_latency(run, name)
    return entries


def _why_no_latency(run: Run, name: str) -> str:
    needed = next((method for part, method in NEEDED_FOR.items() if part in name), "http")
    return run.unavailable.get("latency") or run.unavailable.get(needed) or NOT_ASKED


NEEDED_FOR = {"bare": "latency", "vllm": "vllm_pooling_cold", "engine": "engine"}
"""What must have been opened for a latency, by a part of its name; else it is the server."""


def _p50(seen: Percentiles | None) -> float | None:
    return seen.p50 if seen else None


def _p95(seen: Percentiles | None) -> float | None:
    return seen.p95 if seen else None


def _loads(loads: Sequence[Load] | None) -> list[dict[str, Any]] | None:
    return [_load(load) for load in loads] if loads else None


def _load(load: Load) -> dict[str, Any]:
    seen = percentiles(load.seconds)
    return {
        "of_capacity": load.of_capacity,
        "rate_per_s": load.rate_per_s,
        "requests": load.requests,
        "answered": len(load.seconds),
        "refused": load.refused,
        "failed": load.failed,
        "p50_ms": seen.p50 if seen else None,
        "p95_ms": seen.p95 if seen else None,
        "p99_ms": seen.p99 if seen else None,
    }


def tables(content: Mapping[str, Any]) -> Iterator[Table]:
    """The document for people: one table a workload, one of latencies."""
    for name, workload in content["workloads"].items():
        if workload is not None:
            yield _speed_table(name, workload)
    yield _latency_table(content)


def notes(content: Mapping[str, Any]) -> Iterator[str]:
    """What the tables leave open: why a number is missing that was asked for."""
    for path, why in content["skipped"].items():
        if why != NOT_ASKED:
            yield f"{path}: {why}"


def _speed_table(name: str, workload: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{name}: {workload['groups']} groups, {workload['tokens']:,} tokens, "
        f"{workload['unique_tokens']:,} unique",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("tokens/s", "spread", "unique/s", "of ceiling", "error"):
        table.add_column(column, justify="right")
    for method in (m for m in EVERY_METHOD if m in workload):
        numbers = workload[method]
        if numbers is None:
            table.add_row(method, *("–" for _ in range(5)))
            continue
        table.add_row(
            method,
            f"{numbers['tokens_per_s']:,.0f}",
            f"{numbers['tokens_per_s_min']:,.0f}–{numbers['tokens_per_s_max']:,.0f}",
            f"{numbers['unique_tokens_per_s']:,.0f}",
            f"{numbers['of_ceiling']:.0%}",
            f"{numbers['max_error']:.1e}",
        )
    return table


def _latency_table(content: Mapping[str, Any]) -> Table:
    latency = content["latency"]
    table = Table("latency, ms", "p50", "p95", "p99", "refused", title_justify="left")
    for title, name in IDLE_ROWS.items():
        p50, p95 = latency[f"{name}_p50_ms"], latency.get(f"{name}_p95_ms")
        table.add_row(title, _ms(p50), _ms(p95), "–", "–")
    for title, name in (("http", "open_loop"), ("vLLM", "open_loop_vllm")):
        for load in latency[name] or ():
            table.add_row(
                f"{title}, {load['rate_per_s']:.1f}/s ({load['of_capacity']:.0%})",
                *(_ms(load[f"{name}_ms"]) for name in ("p50", "p95", "p99")),
                str(load["refused"] + load["failed"]),
            )
    ceiling = content["ceiling"]
    table.caption = (
        f"matrix-product ceiling: {ceiling['tflops']:.2f} TFLOP/s, "
        f"{content['ceiling_unique_tokens_per_s']:,.0f} unique tokens/s"
    )
    return table


IDLE_ROWS = {
    "bare forward": "bare_forward",
    "engine, idle": "idle_engine",
    "http, idle": "idle_http",
    "vLLM, idle": "idle_vllm",
}


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
