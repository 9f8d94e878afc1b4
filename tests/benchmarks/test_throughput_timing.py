from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput import timing
from benchmarks.throughput.methods import Method, MethodFailed, Untuned
from benchmarks.throughput.options import METHODS, MethodName
from benchmarks.throughput.timing import Timed, measure, reason, rotated, tune
from benchmarks.throughput.workloads import Draw

DRAWS = [Draw((), ()) for _ in range(3)]
TUNING = Draw((), ())


class Recorded(Untuned):
    """Writes down when it scores; fails at one of its calls if told to."""

    def __init__(self, name: str, calls: list[str], *, fails_at: int | None = None) -> None:
        self._name, self._calls, self._fails_at = name, calls, fails_at

    def score(self, draw: Draw) -> list[float]:
        self._calls.append(self._name)
        if self._calls.count(self._name) == self._fails_at:
            raise MethodFailed("the server\nis gone")
        return [1.0]


class Tunable(Untuned):
    """Each choice takes as long as ``seconds`` says, trial after trial; see :func:`by_choice`."""

    def __init__(self, seconds: list[list[float]]) -> None:
        self.seconds = seconds
        self.choices = [f"choice {index}" for index in range(len(seconds))]
        self.chosen = -1
        self.trials = [0] * len(seconds)

    def choose(self, index: int) -> None:
        self.chosen = index

    def score(self, draw: Draw) -> list[float]:
        return []


def by_choice(method: Method, draw: Draw) -> Timed:
    assert isinstance(method, Tunable)
    if not hasattr(method, "is_warm"):
        method.is_warm = True  # type: ignore[attr-defined]
        return Timed(0.0, [])
    trial = method.trials[method.chosen]
    method.trials[method.chosen] += 1
    return Timed(method.seconds[method.chosen][trial], [])


@given(st.lists(st.sampled_from(METHODS), unique=True, min_size=1))
def test_every_method_has_every_place_equally_often(names: list[MethodName]) -> None:
    orders = [rotated(names, repetition) for repetition in range(len(names))]
    for places in zip(*orders, strict=True):
        assert sorted(places) == sorted(names)
    for order in orders:
        assert sorted(order) == sorted(names)


def test_methods_are_measured_in_turns_of_rotated_order() -> None:
    calls: list[str] = []
    methods: dict[MethodName, Method] = {
        "engine": Recorded("a", calls),
        "http": Recorded("b", calls),
    }
    outcomes = measure(methods, DRAWS, tuning=TUNING)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]  # the first two warm up
    assert [len(outcome.timed) for outcome in outcomes.values()] == [3, 3]


def test_a_method_that_fails_is_out_and_the_others_go_on() -> None:
    calls: list[str] = []
    steps: list[None] = []
    methods: dict[MethodName, Method] = {
        "engine": Recorded("a", calls, fails_at=3),
        "http": Recorded("b", calls),
    }
    outcomes = measure(methods, DRAWS, tuning=TUNING, on_step=lambda: steps.append(None))
    assert outcomes["engine"].failure == "MethodFailed: the server is gone"
    assert outcomes["http"].failure is None
    assert len(outcomes["http"].timed) == 3
    assert calls.count("a") == 3
    assert len(steps) == 8


def test_tuning_leaves_the_fastest_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", by_choice)
    method = Tunable([[3.0], [1.0], [2.0]])
    assert tune(method, TUNING) == "choice 1"
    assert method.chosen == 1


def test_a_close_choice_gets_a_second_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", by_choice)
    method = Tunable([[1.2, 0.8], [1.0, 1.0], [2.0]])
    assert tune(method, TUNING) == "choice 0"
    assert method.trials == [2, 2, 1]


def test_a_reason_is_one_line_also_where_the_error_says_nothing() -> None:
    assert reason(OSError("no\n  such file")) == "OSError: no such file"
    assert reason(RuntimeError()) == "RuntimeError"
