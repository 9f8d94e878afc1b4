"""What an evaluation costs beside the scoring engine alone, on the same texts, in one run.

    python -m benchmarks.evaluation.speed
    python -m benchmarks.evaluation.speed --model runs/quickstart-1/reward_model --repeats 3

Pairs are made in RewardBench's layout and sizes, 2,985 of them. Three ways score them in turn: the
engine alone in one call on token ids; ``medpref bench rewardbench`` in process; the same over HTTP,
against a server on this machine. Each is a process of its own, since each thread on which torch has
computed slows down the others of its process. Model loading is left out. A job's memory is its
resident size at each tenth of the way. The last line is one JSON document.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median

from pydantic import Field
from rich.console import Console
from rich.table import Table

from benchmarks.rewardbench import SIZES
from benchmarks.throughput.servers import ServerProcess
from foundation.errors import JobError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.process import free_port
from foundation.settings import Settings

AS_ASKED = "as asked"
READY_SECONDS = 600
ENGINE, IN_PROCESS, HTTP = "engine alone", "job in process", "job over HTTP"


class SpeedConfig(Settings):
    """The flags."""

    model: Path | None = None
    """Folder of a reward model; left out, one of 28 million random weights is made."""

    repeats: int = Field(default=3, ge=1)
    """Measurements of each way."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Part of the 2,985 pairs to score, for a trial."""

    seed: int = 0
    """Of weights and texts."""

    question_tokens: int = Field(default=60, ge=1)
    """Length of a question."""

    answer_tokens: int = Field(default=190, ge=1)
    """Length of the longest answer; the shortest has a third of that."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of scoring."""

    seconds: list[float]
    pairs_per_s: float
    """Median."""

    of_engine: float
    """Median of the ratios to the engine alone in the same repetition."""

    resident_mib: list[float]
    """Of the last job, at each tenth of the way; empty for the engine."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m benchmarks.evaluation.speed",
        "Compare an evaluation job with the scoring engine alone.",
        examples="  python -m benchmarks.evaluation.speed --share 0.1 --repeats 1",
    )
    add_settings(parser, SpeedConfig)
    parser.add_argument("--engine-alone", type=Path, help="internal: the pairs to score and time")
    given = parser.parse_args(arguments)
    config = read_settings(SpeedConfig, given)
    if given.engine_alone is not None:
        sys.stdout.write(f"{time_engine(config, given.engine_alone)}\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        measured, pairs = measure(config, Path(folder))
    Console().print(_table(measured))
    document = {"pairs": pairs, "ways": {name: asdict(one) for name, one in measured.items()}}
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


def measure(config: SpeedConfig, folder: Path) -> tuple[dict[str, Measured], int]:
    """All ways in turn, as often as asked."""
    model, pairs = config.model or folder / "model", folder / "pairs.jsonl"
    count = prepare(config, folder / "model", pairs)
    seconds: dict[str, list[float]] = {ENGINE: [], IN_PROCESS: [], HTTP: []}
    resident: dict[str, list[float]] = {ENGINE: []}
    for repeat in range(config.repeats):
        seconds[ENGINE].append(_engine_seconds(model, pairs))
        for name in (IN_PROCESS, HTTP):
            with ExitStack() as stack:
                flag = f"--model-path={model}"
                if name == HTTP:
                    flag = f"--server={stack.enter_context(_server(model, folder)).url}"
                took, resident[name] = _job(pairs, folder / f"{name}-{repeat}", flag)
                seconds[name].append(took)
    return {
        name: Measured(
            seconds=times,
            pairs_per_s=median(count / each for each in times),
            of_engine=median(
                alone / each for alone, each in zip(seconds[ENGINE], times, strict=True)
            ),
            resident_mib=resident[name],
        )
        for name, times in seconds.items()
    }, count


def prepare(config: SpeedConfig, folder: Path, pairs: Path) -> int:
    """Makes what is not given: the model, and the pairs; returns their number."""
    from benchmarks.throughput.models import open_model  # noqa: PLC0415 - loads torch
    from benchmarks.throughput.options import ThroughputConfig  # noqa: PLC0415
    from benchmarks.throughput.workloads import compose  # noqa: PLC0415

    throughput = ThroughputConfig(model=config.model, methods=("http",), seed=config.seed)
    words = open_model(throughput, folder).words()
    rng = Random(config.seed)
    shortest = max(1, config.answer_tokens // 3)
    count = 0
    with pairs.open("w", encoding="utf-8") as file:
        for subset, size in SIZES.items():
            for index in range(max(1, round(config.share * size))):
                lengths = [rng.randint(shortest, config.answer_tokens) for _ in range(2)]
                chosen, rejected = (compose(words, length, rng) for length in lengths)
                row = {
                    "id": index,
                    "subset": subset,
                    "prompt": compose(words, config.question_tokens, rng),
                    "chosen": chosen,
                    "rejected": rejected,
                    "chosen_model": "a",
                    "rejected_model": "b",
                }
                file.write(json.dumps(row) + "\n")
                count += 1
    return count


def time_engine(config: SpeedConfig, pairs: Path) -> float:
    """Seconds of the engine on the token ids of all pairs, in one call."""
    from benchmarks.throughput.models import open_model  # noqa: PLC0415
    from benchmarks.throughput.options import ThroughputConfig  # noqa: PLC0415
    from corpora.rankings.registry import read_ranked  # noqa: PLC0415
    from reward_server.local import LocalEngine  # noqa: PLC0415
    from reward_server.protocol import ScoreGroup  # noqa: PLC0415
    from reward_server.specs import TransformerSpec  # noqa: PLC0415

    assert config.model is not None, "the process that starts this one names it"
    model = open_model(ThroughputConfig(model=config.model, methods=("http",)), config.model)
    inputs = [
        ids
        for group in read_ranked(str(pairs), None)
        for ids in model.render(ScoreGroup.of("", group.conversation, group.candidates)).inputs
    ]
    engine = LocalEngine.load(config.model, TransformerSpec(model=str(config.model)))
    engine.score_ids(inputs[:64])
    begun = time.perf_counter()
    engine.score_ids(inputs)
    return time.perf_counter() - begun


def _engine_seconds(model: Path, pairs: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.evaluation.speed", f"--model={model}"]
    ran = subprocess.run(
        [*command, f"--engine-alone={pairs}"], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(ran.stdout.splitlines()[-1])


def _job(pairs: Path, output: Path, flag: str) -> tuple[float, list[float]]:
    """Seconds between the first group and the last, and the resident sizes on the way."""
    command = [sys.executable, "-m", "medpref", "bench", "rewardbench", str(pairs), flag]
    command += [f"--output={output}", "--controls=none"]
    times: list[float] = []
    sizes: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        for moment in _moments(job.stderr):
            times.append(moment)
            sizes.append(_resident_mib(job.pid))
    if job.returncode:
        raise JobError(f"{' '.join(command)}: ended with {job.returncode}")
    return times[-1] - times[0], sizes


def _moments(stream: Iterable[bytes]) -> Iterator[float]:
    """When each tenth of the pass was told, in seconds."""
    for line in stream:
        fields = json.loads(line) if line.startswith(b"{") else {}
        if fields.get("task") == AS_ASKED:
            yield fields["time"]


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * 4096 / 2**20, 1)


def _server(model: Path, folder: Path) -> ServerProcess:
    port = free_port()
    return ServerProcess(
        f"http://127.0.0.1:{port}",
        [sys.executable, "-m", "reward_server", f"--model={model}", f"--port={port}"],
        folder / "server.log",
        {"HF_HUB_OFFLINE": "1"},
        health="/health/ready",
        ready_seconds=READY_SECONDS,
    )


def _table(measured: dict[str, Measured]) -> Table:
    table = Table("", "pairs/s", "of the engine", "resident, MiB: first, last, most")
    for name, one in measured.items():
        sizes = one.resident_mib
        memory = f"{sizes[0]:,.0f}, {sizes[-1]:,.0f}, {max(sizes):,.0f}" if sizes else "–"
        table.add_row(name, f"{one.pairs_per_s:,.1f}", f"{one.of_engine:.3f}", memory)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
