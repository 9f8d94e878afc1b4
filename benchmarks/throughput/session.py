"""What a comparison works on: the model, its text, and the methods, each opened if it can be.

A method that cannot be opened, such as vLLM where it is not installed, is written down with the
reason; the comparison goes on with the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.throughput import ours
from benchmarks.throughput.latency import Request, Send, Way
from benchmarks.throughput.methods import Method
from benchmarks.throughput.models import BenchModel, device
from benchmarks.throughput.options import DType, MethodName, ThroughputConfig, WorkloadName
from benchmarks.throughput.timing import FAILURES, reason
from benchmarks.throughput.transformers_rival import transformers_single, transformers_sorted
from benchmarks.throughput.vllm_rival import Serving, VllmMethod, VllmServer
from benchmarks.throughput.workloads import Draw, Lengths, Word, Workload, make_workload
from foundation.errors import UserError
from foundation.reporting import Reporter

TEMPLATE_TOKENS = 256
"""What a chat template may add to a conversation and its candidate, at most."""


@dataclass
class Session:
    """What all phases share. Servers run until ``stack`` is closed."""

    config: ThroughputConfig
    model: BenchModel
    words: Sequence[Word]
    dtype: DType
    threads: int
    folder: Path
    runner: asyncio.Runner
    stack: ExitStack
    methods: dict[MethodName, Method] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    """Why a method that was asked for could not be opened."""

    senders: dict[str, Send] = field(default_factory=dict)
    """How single requests reach each server."""

    ways: dict[str, Way] = field(default_factory=dict)
    """How single requests are scored, one after the other."""

    def workload(self, name: WorkloadName) -> Workload:
        """The workload of that name, as big as was asked for."""
        return make_workload(
            name, groups=self.config.groups, lengths=self.lengths, seed=self.config.seed
        )

    @property
    def lengths(self) -> Lengths:
        return Lengths(self.config.conversation, *self.config.candidate_tokens)

    def draw(self, workload: Workload, repetition: str) -> Draw:
        """Text of one repetition.

        Raises:
            UserError: if an input is longer than the model reads.
        """
        draw = workload.draw(self.words, self.model.render, repetition=repetition)
        longest, limit = max(map(len, draw.inputs)), self.model.max_length
        if limit is not None and longest > limit:
            raise UserError(
                f"--candidate-tokens-max: an input has {longest} tokens, the model reads {limit}; "
                "lower it or --conversation-tokens"
            )
        return draw


Opener = Callable[[Session, Any], dict[MethodName, Method]]


def open_methods(session: Session, plain: Any, reporter: Reporter) -> None:
    """Opens what was asked for.

    Args:
        session: gets the methods, or why there are none.
        plain: the model as transformers gives it.
        reporter: told what is started.
    """
    for names, opener in OPENERS.items():
        asked = [name for name in names if name in session.config.methods]
        if not asked:
            continue
        reporter.event("method.opening", f"starting {', '.join(asked)}", methods=asked)
        try:
            opened = opener(session, plain)
        except FAILURES as error:
            session.unavailable.update(dict.fromkeys(asked, reason(error)))
            reporter.event("method.skipped", f"skipped: {reason(error)}", reason=reason(error))
        else:
            session.methods.update({name: opened[name] for name in asked})


def _open_engine(session: Session, plain: Any) -> dict[MethodName, Method]:
    engine = ours.open_engine(
        session.model, dtype=session.dtype, max_batch_tokens=session.config.max_batch_tokens
    )
    method = ours.EngineMethod(engine)
    session.ways["engine"] = lambda request: method.score_one(request.ids)
    return {"engine": method}


def _open_plain(session: Session, plain: Any) -> dict[MethodName, Method]:
    engine = ours.open_engine(
        session.model,
        dtype=session.dtype,
        max_batch_tokens=session.config.max_batch_tokens,
        kernels="plain",
    )
    return {"engine_plain": ours.EngineMethod(engine)}


def _open_deterministic(session: Session, plain: Any) -> dict[MethodName, Method]:
    engine = ours.open_engine(
        session.model, dtype=session.dtype, max_batch_tokens=None, deterministic=True
    )
    return {"engine_deterministic": ours.EngineMethod(engine)}


def _open_http(session: Session, plain: Any) -> dict[MethodName, Method]:
    assert session.model.folder is not None
    server = session.stack.enter_context(
        ours.RewardServer(
            session.model.folder,
            session.folder / "reward-server.log",
            dtype=session.dtype,
            threads=session.threads,
            max_batch_tokens=session.config.max_batch_tokens,
        )
    )
    method = ours.HttpMethod(server.url, session.runner)
    session.stack.callback(method.close)
    one = ours.HttpOne(server.url)
    session.stack.callback(lambda: session.runner.run(one.aclose()))
    session.senders["http"] = one.send
    session.ways["http"] = way_of(one.send, session.runner)
    return {"http": method}


def _open_vllm(session: Session, plain: Any) -> dict[MethodName, Method]:
    assert session.model.folder is not None
    wanted = session.lengths.conversation + session.lengths.longest + TEMPLATE_TOKENS
    serving = Serving(
        dtype=session.dtype,
        max_length=min(wanted, session.model.max_length or wanted),
        threads=session.threads,
        gpu_memory=session.config.vllm_gpu_memory,
        on_cpu=device() == "cpu",
    )
    server = session.stack.enter_context(
        VllmServer(session.model.folder, session.folder / "vllm.log", serving)
    )
    cold = VllmMethod(server, session.runner, warm_with=None)
    warm = VllmMethod(server, session.runner, warm_with=session.config.vllm_warm)
    session.stack.callback(cold.close)
    session.stack.callback(warm.close)
    session.senders["vllm_pooling"] = cold.send
    return {"vllm_pooling_cold": cold, "vllm_pooling_warm": warm}


def _open_transformers(session: Session, plain: Any) -> dict[MethodName, Method]:
    return {
        "transformers_single": transformers_single(plain),
        "transformers_sorted": transformers_sorted(plain),
    }


OPENERS: dict[tuple[MethodName, ...], Opener] = {
    ("engine",): _open_engine,
    ("engine_plain",): _open_plain,
    ("engine_deterministic",): _open_deterministic,
    ("http",): _open_http,
    ("vllm_pooling_cold", "vllm_pooling_warm"): _open_vllm,
    ("transformers_single", "transformers_sorted"): _open_transformers,
}


def way_of(send: Send, runner: asyncio.Runner) -> Way:
    """A way of scoring one request after the other that goes through a server."""

    async def answered(request: Request) -> bool:
        return await send(request.group, request.ids)

    return lambda request: runner.run(answered(request))
