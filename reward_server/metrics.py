"""What the reward server counts, in a registry of its own.

No label carries anything that a caller chose; ``model`` is a name that the server was given, and
``NAME.reference`` the reference of an implicit one.
``render``, ``wait`` and ``forward`` split a request's time; ``other`` is the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from reward_server.batcher import Batcher
from reward_server.canary import CanaryOutcome
from reward_server.protocol import CandidateResult, Usage
from reward_server.registry import Registry, Served
from reward_server.scorers.implicit import ImplicitScorer

_SECONDS = tuple(0.001 * 2**power for power in range(17))
"""1 ms to about a minute, each twice the last."""

PHASES = ("render", "wait", "forward")


class Metrics:
    """Counters of one server."""

    def __init__(self, registry: Registry) -> None:
        self._models = registry
        self._watched: set[str] = set()
        self._registry = CollectorRegistry()
        self._registry.register(_Models(registry))
        self._requests = Counter(
            "reward_server_requests", "Answers.", ["route", "status"], registry=self._registry
        )
        self._candidates = self._counter("candidates", "Candidates scored.")
        self._item_errors = self._counter("item_errors", "Candidates that got a typed error.")
        self._tokens = self._counter("tokens", "Tokens of scored inputs.")
        self._computed = self._counter("computed_tokens", "Tokens that went through the model.")
        self._cached = self._counter("cached_candidates", "Rewards that came from the cache.")
        self._truncated = self._counter("truncated_tokens", "Tokens cut from conversations.")
        self._phases = Histogram(
            "reward_server_phase_seconds",
            "Time of one scoring request by phase.",
            ["phase"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._canary_difference = Gauge(
            "reward_server_canary_max_abs_diff",
            "Largest difference of a canary's reward from the one it once had.",
            ["model"],
            registry=self._registry,
        )
        self._canary_failed = Gauge(
            "reward_server_canary_failed",
            "Canaries without a reward at the last look.",
            ["model"],
            registry=self._registry,
        )

    def observe(
        self,
        results: Sequence[CandidateResult],
        usage: Usage,
        phases: dict[str, float],
        *,
        seconds: float,
    ) -> dict[str, float]:
        """Counts one scored request that took ``seconds``; returns its seconds by phase."""
        self._candidates.inc(len(results))
        self._item_errors.inc(sum(result.error is not None for result in results))
        self._truncated.inc(sum(result.truncated_tokens for result in results))
        self._tokens.inc(usage.tokens)
        self._computed.inc(usage.computed_tokens)
        self._cached.inc(usage.cached_candidates)
        known = {phase: phases.get(phase, 0.0) for phase in PHASES}
        every = {**known, "other": max(seconds - sum(known.values()), 0.0)}
        for phase, duration in every.items():
            self._phases.labels(phase).observe(duration)
        return every

    def answered(self, *, route: str, status: int) -> None:
        """Counts one answer."""
        self._requests.labels(route, str(status)).inc()

    def canary(self, model: str, outcome: CanaryOutcome) -> None:
        """Keeps what a look at a model's canaries found."""
        self._watched.add(model)
        if outcome.max_abs_diff is not None:
            self._canary_difference.labels(model).set(outcome.max_abs_diff)
        self._canary_failed.labels(model).set(outcome.failed)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Adds a number that is read when somebody looks."""
        gauge = Gauge(f"reward_server_{name}", help_text, registry=self._registry)
        gauge.set_function(read)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        self._forget_canaries()
        return generate_latest(self._registry)

    def _forget_canaries(self) -> None:
        """Drops what canaries said of models that are watched no more: it would pass for news."""
        watched = {served.name for served in self._models.all() if served.canary is not None}
        for model in self._watched - watched:
            self._canary_difference.remove(model)
            self._canary_failed.remove(model)
        self._watched &= watched

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"reward_server_{name}", help_text, registry=self._registry)


BATCHER_GAUGES: dict[str, tuple[str, Callable[[Batcher], float]]] = {
    "pending_tokens": ("Tokens admitted and not yet computed.", lambda b: b.pending_tokens),
    "batch_budget_tokens": ("Tokens of one batch at most.", lambda b: b.batch_tokens),
}
BATCHER_COUNTERS: dict[str, tuple[str, Callable[[Batcher], float]]] = {
    "batches": ("Batches computed.", lambda b: b.tally.batches),
    "batch_tokens": ("Tokens of computed batches.", lambda b: b.tally.tokens),
    "device_seconds": (
        "Time of batches, their turn on the device included.",
        lambda b: b.tally.seconds,
    ),
    "out_of_memory": ("Batches that did not fit into memory.", lambda b: b.tally.out_of_memory),
    "dropped_requests": ("Requests given up before their end.", lambda b: b.tally.dropped),
}
DRIFT_NUMBERS = (
    "reward_psi",
    "reward_ks",
    "length_psi",
    "length_slope",
    "length_correlation",
    "reference_length_slope",
    "reference_length_correlation",
)


class _Models:
    """What each served model tells of itself, read when somebody looks."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        models = self._registry.all()
        yield self._family(
            "ready",
            "1 while the model scores.",
            [(served.name, float(served.scorer.is_ready)) for served in models],
        )
        for name, (help_text, read) in BATCHER_GAUGES.items():
            yield self._family(name, help_text, [(n, read(b)) for n, b in _batchers(models)])
        for name, (help_text, read) in BATCHER_COUNTERS.items():
            counter = CounterMetricFamily(f"reward_server_{name}", help_text, labels=["model"])
            for model, batcher in _batchers(models):
                counter.add_metric([model], read(batcher))
            yield counter
        for number in DRIFT_NUMBERS:
            yield self._family(
                f"drift_{number}",
                "Rewards of late against the calibration's reference; see docs/trust.md.",
                [(s.name, v) for s in models if (v := _drift(s, number)) is not None],
            )

    def _family(
        self, name: str, help_text: str, values: Sequence[tuple[str, float]]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"reward_server_{name}", help_text, labels=["model"])
        for model, value in values:
            family.add_metric([model], value)
        return family


def _batchers(models: Sequence[Served]) -> list[tuple[str, Batcher]]:
    found: list[tuple[str, Batcher]] = []
    for served in models:
        if isinstance(served.scorer, ImplicitScorer):
            policy, reference = served.scorer.pipelines
            found.append((served.name, policy.batcher))
            found.append((f"{served.name}.reference", reference.batcher))
        elif (pipeline := getattr(served.scorer, "pipeline", None)) is not None:
            found.append((served.name, pipeline.batcher))
    return found


def _drift(served: Served, number: str) -> float | None:
    if served.drift is None:
        return None
    value: float | None = getattr(served.drift.read(), number)
    return value
