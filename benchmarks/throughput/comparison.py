"""The phases of one comparison, in order.

Model and text are made; a sample is scored in float32; the servers start; every workload is
measured, the matrix products before each repetition of it; then latency.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput import ours
from benchmarks.throughput.ceiling import Ceiling, linear_layers, measure_ceiling, stopwatch
from benchmarks.throughput.correctness import Truth
from benchmarks.throughput.latency import (
    SHARES,
    Load,
    Request,
    Send,
    capacity,
    open_loop,
    requests_of,
    take_turns,
)
from benchmarks.throughput.models import BenchModel, device, open_model
from benchmarks.throughput.options import DType, MethodName, ThroughputConfig, WorkloadName
from benchmarks.throughput.report import LatencyRun, Run, WorkloadRun
from benchmarks.throughput.session import Session, open_methods, way_of
from benchmarks.throughput.timing import FAILURES, Outcome, measure, reason, tune
from benchmarks.throughput.transformers_rival import transformers_single
from benchmarks.throughput.workloads import CANDIDATES, Draw, Ids, Workload
from foundation.reporting import Reporter
from foundation.training import uses_bfloat16

SAMPLE = 32
"""Inputs of each workload whose rewards are compared with a float32 forward."""

TUNING_SHARE = 2
"""Tuning scores one group in so many."""


def compare(config: ThroughputConfig, folder: Path, reporter: Reporter) -> Run:
    """Measures everything that was asked for.

    Args:
        config: what was asked for.
        folder: for the model that is made and the servers' logs.
        reporter: told how far it is.

    Raises:
        UserError: if the model cannot be used, or the lengths do not fit it.
    """
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    dtype: DType = "bfloat16" if uses_bfloat16(config.dtype) else "float32"
    reporter.event("model.opening", "making or reading the model", dtype=dtype, threads=threads)
    model = open_model(config, folder / "model")
    with ExitStack() as stack:
        session = Session(
            config=config,
            model=model,
            words=model.words(),
            dtype=dtype,
            threads=threads,
            folder=folder,
            runner=stack.enter_context(asyncio.Runner()),
            stack=stack,
        )
        return _phases(session, reporter)


def _phases(session: Session, reporter: Reporter) -> Run:
    names, repeats = session.config.workloads, range(session.config.repeats)
    draws = {
        name: [session.draw(session.workload(name), str(index)) for index in repeats]
        for name in names
    }
    reporter.event("truth.computing", "a sample in float32, to compare rewards with")
    samples = {name: draws[name][0].inputs[:SAMPLE] for name in names}
    exact = _float32_rewards(session.model, samples)
    plain = session.model.build(session.dtype)
    truths = {name: Truth(exact[name], _forward_each(plain, samples[name])) for name in names}
    open_methods(session, plain, reporter)
    workloads = {}
    for name in names:
        outcomes, ceilings = _measure(session, plain, name, draws[name], reporter)
        workloads[name] = WorkloadRun(
            CANDIDATES[name], draws[name], outcomes, truths[name], ceilings
        )
    return Run(
        about=_about(session, plain),
        workloads=workloads,
        latency=_latency(session, plain, reporter),
        unavailable=session.unavailable,
    )


def _float32_rewards(
    model: BenchModel, samples: Mapping[WorkloadName, Sequence[Ids]]
) -> dict[WorkloadName, list[float]]:
    module = model.build("float32")
    rewards = {name: _forward_each(module, sample) for name, sample in samples.items()}
    del module
    gc.collect()
    torch.cuda.empty_cache()  # room for the models that follow; does nothing without a GPU
    return rewards


def _forward_each(module: Any, inputs: Sequence[Ids]) -> list[float]:
    method = transformers_single(module)
    return [method.forward([ids])[0] for ids in inputs]


def _ceiling(session: Session, plain: Any) -> Ceiling:
    tokens = ours.batch_tokens(session.config.max_batch_tokens)
    watch = stopwatch(tokens=tokens, dtype=session.dtype, device=device())
    return measure_ceiling(linear_layers(plain), tokens=tokens, stopwatch=watch)


def _measure(
    session: Session, plain: Any, name: WorkloadName, draws: Sequence[Draw], reporter: Reporter
) -> tuple[dict[MethodName, Outcome], list[Ceiling]]:
    workload = session.workload(name)
    tuning = session.draw(workload, "tuning").first(-(-workload.groups // TUNING_SHARE))
    total, done = len(session.methods) * (1 + len(draws)), 0

    def step() -> None:
        nonlocal done
        done += 1
        reporter.progress(name, done, total)

    def time_products() -> None:
        ceilings.append(_ceiling(session, plain))

    ceilings: list[Ceiling] = []
    outcomes = measure(
        session.methods, draws, tuning=tuning, on_repetition=time_products, on_step=step
    )
    return outcomes, ceilings


def _latency(session: Session, plain: Any, reporter: Reporter) -> LatencyRun:
    """Latencies, as far as the servers live; what was measured before a failure is kept."""
    run = LatencyRun()
    if session.config.latency_requests:
        reporter.event("latency.measuring", "latency of single requests")
        try:
            _idle(session, plain, run)
            _open_loops(session, run, reporter)
        except FAILURES as error:
            session.unavailable["latency"] = reason(error)
    return run


def _idle(session: Session, plain: Any, run: LatencyRun) -> None:
    bare = transformers_single(plain)
    warm_up = _single(session, "latency-tuning")
    tune(bare, warm_up)
    bare.prepare(warm_up)
    session.ways["bare_forward"] = lambda request: bare.forward([request.ids])
    run.idle |= take_turns(_requests(session, "latency-idle"), session.ways, pause=time.sleep)
    # By itself, since vLLM keeps the machine busy behind each of its answers.
    if "vllm_pooling" in session.senders:
        way = way_of(session.senders["vllm_pooling"], session.runner)
        requests = _requests(session, "latency-vllm")
        run.idle |= take_turns(requests, {"vllm_pooling": way}, pause=time.sleep)


def _open_loops(session: Session, run: LatencyRun, reporter: Reporter) -> None:
    """Every server under the rates that are shares of what the first of them can answer."""
    for server, send in session.senders.items():
        if run.capacity_per_s is None:
            requests = _requests(session, "latency-capacity")
            run.capacity_per_s = session.runner.run(capacity(requests, send))
        loads = run.open_loop[server] = []
        for share in SHARES:
            reporter.event("load.sending", f"{server} at {share:.0%} of the capacity")
            loads.append(_load(session, send, share, run.capacity_per_s))


def _load(session: Session, send: Send, share: float, capacity_per_s: float) -> Load:
    return session.runner.run(
        open_loop(
            _requests(session, f"latency-{share}"),
            send,
            of_capacity=share,
            rate_per_s=share * capacity_per_s,
            seed=session.config.seed,
        )
    )


def _requests(session: Session, series: str) -> list[Request]:
    return requests_of(_single(session, series))


def _single(session: Session, series: str) -> Draw:
    count = session.config.latency_requests
    return session.draw(Workload("single", count, session.lengths, session.config.seed), series)


def _about(session: Session, plain: Any) -> dict[str, Any]:
    return {
        "model": {
            "name": session.model.name,
            "architecture": type(plain).__name__,
            "parameters": sum(weight.numel() for weight in plain.parameters()),
        },
        "dtype": session.dtype,
        "device": device(),
        "threads": session.threads,
        "settings": session.config.model_dump(mode="json"),
    }
