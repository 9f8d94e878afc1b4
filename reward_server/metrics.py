"""What the reward server counts, in a registry of its own.

No label carries anything that a caller chose. ``render`` to ``wait`` split a request's time:
``wait`` is everything between admission and answer that is neither rendering nor forward.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from reward_server.scorer import Scored

_SECONDS = tuple(0.001 * 2**power for power in range(17))
"""1 ms to about a minute, each twice the last."""


class Metrics:
    """Counters of one server."""

    def __init__(self, *, pending: Callable[[], float], ready: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "reward_server_requests", "Answers.", ["route", "status"], registry=self._registry
        )
        self._candidates = self._counter("candidates", "Candidates scored.")
        self._item_errors = self._counter("item_errors", "Candidates that got a typed error.")
        self._tokens = self._counter("tokens", "Tokens of scored inputs.")
        self._computed = self._counter("computed_tokens", "Tokens that went through the model.")
        self._padding = self._counter("padding_tokens", "Positions computed for nothing.")
        self._truncated = self._counter("truncated_tokens", "Tokens cut from conversations.")
        self._phases = Histogram(
            "reward_server_phase_seconds",
            "Time of one scoring request by phase.",
            ["phase"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gauge("pending_candidates", "Candidates admitted and not answered.", pending)
        self._gauge("ready", "1 while the server answers scoring requests.", ready)

    def observe(self, scored: Scored, *, seconds: float) -> dict[str, float]:
        """Counts one scored request that took ``seconds``; returns its seconds by phase."""
        results = [result for group in scored.groups for result in group.results]
        self._candidates.inc(len(results))
        self._item_errors.inc(sum(result.error is not None for result in results))
        self._truncated.inc(sum(result.truncated_tokens for result in results))
        self._tokens.inc(scored.usage.tokens)
        self._computed.inc(scored.usage.computed_tokens)
        self._padding.inc(scored.padding_tokens)
        wait = seconds - scored.render_seconds - scored.forward_seconds
        phases = {
            "wait": max(wait, 0.0),
            "render": scored.render_seconds,
            "forward": scored.forward_seconds,
        }
        for phase, duration in phases.items():
            self._phases.labels(phase).observe(duration)
        return phases

    def answered(self, *, route: str, status: int) -> None:
        """Counts one answer."""
        self._requests.labels(route, str(status)).inc()

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"reward_server_{name}", help_text, registry=self._registry)

    def _gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        gauge = Gauge(f"reward_server_{name}", help_text, registry=self._registry)
        gauge.set_function(read)
