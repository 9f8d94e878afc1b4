from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.calibration import Calibration, fit
from reward_server.drift import Bins, Drift, DriftMonitor, ks_distance

REWARDS = [float(r) for r in range(100)]
LENGTHS = [200 - r for r in range(100)]
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def calibration(
    rewards: list[float] | None = None, lengths: list[int] | None = None
) -> Calibration:
    return fit(
        rewards or REWARDS,
        lengths or LENGTHS,
        fingerprint="feed",
        name="questions",
        sha256="0" * 64,
    )


def read(monitor: DriftMonitor, rewards: list[float], lengths: list[int]) -> Drift:
    for reward, length in zip(rewards, lengths, strict=True):
        monitor.observe(reward, length)
    return monitor.read()


def test_traffic_like_the_reference_has_no_drift() -> None:
    drift = read(DriftMonitor(calibration(), window=100, least=10), REWARDS, LENGTHS)
    assert drift.observations == 100
    assert drift.reward_psi == 0
    assert drift.reward_ks == 0
    assert drift.length_psi == 0
    assert drift.length_slope == drift.reference_length_slope == pytest.approx(-1)
    assert drift.length_correlation == drift.reference_length_correlation == pytest.approx(-1)


def test_traffic_that_moved_shows_it() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=10)
    drift = read(monitor, [r + 50 for r in REWARDS], [2 * length for length in LENGTHS])
    assert drift.reward_ks == pytest.approx(0.5)
    assert drift.reward_psi is not None
    assert drift.reward_psi > 0.25
    assert drift.length_psi is not None
    assert drift.length_psi > 0.25
    assert drift.length_slope == pytest.approx(-0.5)


def test_too_few_observations_say_none_and_not_zero() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=10)
    drift = read(monitor, REWARDS[:9], LENGTHS[:9])
    assert drift == Drift(
        observations=9,
        reference_length_slope=drift.reference_length_slope,
        reference_length_correlation=drift.reference_length_correlation,
    )
    assert drift.reference_length_slope == pytest.approx(-1)
    assert read(monitor, REWARDS[9:10], LENGTHS[9:10]).reward_psi is not None


def test_the_window_forgets_what_is_older() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=10)
    read(monitor, [1e9] * 100, [1] * 100)
    drift = read(monitor, REWARDS, LENGTHS)
    assert drift.observations == 100
    assert drift.reward_psi == 0


def test_nothing_new_is_not_computed_again() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=10)
    first = read(monitor, REWARDS, LENGTHS)
    assert monitor.read() is first
    monitor.observe(1.0, 1)
    assert monitor.read() is not first


def test_lengths_that_no_model_read_have_no_psi() -> None:
    unread = [0] * 100
    drift = read(DriftMonitor(calibration(None, unread), window=100, least=10), REWARDS, unread)
    assert drift.reward_psi == 0
    assert drift.length_psi is None
    assert drift.length_slope is None
    assert drift.length_correlation is None


def test_rewards_that_no_longer_differ_have_no_correlation() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=10)
    drift = read(monitor, [0.1] * 100, LENGTHS)
    assert drift.length_correlation is None
    assert drift.length_slope == 0


def test_absurd_rewards_are_read_without_a_warning() -> None:
    monitor = DriftMonitor(calibration(), window=100, least=2)
    drift = read(monitor, [1.7e308, -1.7e308, 1.7e308], [1, 2, 3])
    assert drift.reward_psi is not None
    assert drift.length_correlation is None


@pytest.mark.parametrize(("window", "least"), [(10, 11), (10, 1), (0, 0)])
def test_a_window_that_can_never_tell_is_refused(window: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"{window} cannot hold least {least}"):
        DriftMonitor(calibration(), window=window, least=least)


def test_the_psi_is_that_by_hand() -> None:
    bins = Bins.of(np.array([0.0] * 5 + [1.0] * 5))  # edges 0 and 1, the third bin is empty
    expected = [5.5 / 11.5, 5.5 / 11.5, 0.5 / 11.5]
    actual = [1.5 / 5.5, 3.5 / 5.5, 0.5 / 5.5]  # one 0 and three 1
    by_hand = sum((a - e) * math.log(a / e) for a, e in zip(actual, expected, strict=True))
    assert bins.psi(np.array([0.0, 1.0, 1.0, 1.0])) == pytest.approx(by_hand)


@given(VALUES, VALUES)
def test_the_psi_is_no_less_than_0_and_0_for_the_same(one: list[float], other: list[float]) -> None:
    bins = Bins.of(np.array(one))
    assert bins.psi(np.array(one)) == 0
    assert bins.psi(np.array(other)) >= 0


def test_the_ks_distance_is_that_by_hand() -> None:
    # at 2: half of the first up to there, all of the second
    assert ks_distance(np.array([3.0, 1.0, 2.0, 4.0]), np.array([0.0, 1.0, 2.0])) == 0.5


@given(VALUES, VALUES)
def test_the_ks_distance_is_the_largest_between_the_distributions(
    one: list[float], other: list[float]
) -> None:
    distance = ks_distance(np.array(one), np.sort(other))
    assert distance == pytest.approx(
        max(
            abs(sum(v <= x for v in one) / len(one) - sum(v <= x for v in other) / len(other))
            for x in [*one, *other]
        )
    )
    assert distance == pytest.approx(ks_distance(np.array(other), np.sort(one)))
    assert 0 <= distance <= 1
