from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.calibration import (
    GRID_POINTS,
    Calibration,
    CalibrationError,
    condense,
    fit,
    length_trend,
    require,
)
from reward_server.errors import ServerStartError

SHA256 = "0" * 64
FINITE = st.floats(allow_nan=False, allow_infinity=False)
MODERATE = st.floats(-1e6, 1e6)
LOGITS = st.lists(MODERATE, min_size=2, max_size=50).filter(lambda r: max(r) - min(r) > 1e-3)


def calibration(rewards: list[float], lengths: list[int] | None = None) -> Calibration:
    lengths = lengths or list(range(10, 10 + len(rewards)))
    return fit(rewards, lengths, fingerprint="feed", name="questions", sha256=SHA256)


def test_a_reward_is_seen_as_by_hand() -> None:
    view = calibration([0.0, 0.0, 2.0, 4.0]).view(2.0)
    # mean 1.5; sum of squares 2.25 + 2.25 + 0.25 + 6.25 = 11 over n - 1 = 3
    assert view.z_score == pytest.approx(0.5 / math.sqrt(11 / 3))
    assert view.percentile == 62.5  # two below, half of one equal, of four
    sigmoids = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.exp(2))]
    assert view.win_probability == pytest.approx(sum(sigmoids) / 4)


def test_a_view_names_the_calibration_that_made_it() -> None:
    made = calibration([1.0, 2.0])
    assert made.view(0.0).artefact == made.id
    assert len(made.id) == 16


@given(LOGITS, MODERATE, MODERATE)
def test_every_view_rises_with_the_reward(rewards: list[float], one: float, other: float) -> None:
    made = calibration(rewards)
    low, high = made.view(min(one, other)), made.view(max(one, other))
    assert low.z_score <= high.z_score
    assert low.percentile <= high.percentile
    assert low.win_probability <= high.win_probability + 1e-12


@given(LOGITS, FINITE)
def test_every_finite_reward_has_views_within_their_bounds(
    rewards: list[float], reward: float
) -> None:
    view = calibration(rewards).view(reward)
    assert math.isfinite(view.z_score)
    assert 0 <= view.percentile <= 100
    assert 0 <= view.win_probability <= 1


@given(LOGITS, MODERATE)
def test_to_beat_is_the_opposite_of_to_be_beaten(rewards: list[float], reward: float) -> None:
    mirrored = calibration([-r for r in rewards]).view(-reward)
    view = calibration(rewards).view(reward)
    assert view.win_probability + mirrored.win_probability == pytest.approx(1)
    assert view.percentile + mirrored.percentile == pytest.approx(100)


@given(st.integers(GRID_POINTS + 1, 5_000), st.integers(1, 10_000), st.integers(0, 2**32 - 1))
def test_a_grid_moves_views_by_no_more_than_it_says(count: int, values: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rewards_N = generator.integers(0, values, size=count) / 1_000
    reward = float(generator.choice(rewards_N))
    if np.ptp(rewards_N) == 0:
        rewards_N[0] += 1
    made = calibration(rewards_N.tolist())
    assert len(made.rewards) == len(made.lengths) == GRID_POINTS
    assert made.reference.size == count
    view = made.view(reward)
    exact = 50 * ((rewards_N < reward).mean() + (rewards_N <= reward).mean())
    assert abs(view.percentile - exact) <= 0.05
    assert abs(view.win_probability - (1 / (1 + np.exp(rewards_N - reward))).mean()) <= 0.0005


@given(st.lists(MODERATE, min_size=1, max_size=GRID_POINTS))
def test_few_values_are_kept_as_they_are(values: list[float]) -> None:
    assert condense(np.array(values)).tolist() == sorted(values)


def test_slope_and_correlation_are_those_by_hand() -> None:
    made = calibration([1.0, 2.0, 2.0, 3.0], [10, 20, 30, 40])
    # x -15 -5 5 15, y -1 0 0 1: xy 30, xx 500, yy 2
    assert made.length_slope == pytest.approx(30 / 500)
    assert made.length_correlation == pytest.approx(30 / math.sqrt(500 * 2))


def test_equal_lengths_have_neither_slope_nor_correlation() -> None:
    made = calibration([1.0, 2.0, 4.0], [7, 7, 7])
    assert made.length_slope is None
    assert made.length_correlation is None


def test_equal_rewards_have_a_slope_and_no_correlation() -> None:
    trend = length_trend(np.array([0.1, 0.1, 0.1]), np.array([1, 2, 3]))
    assert trend.slope == 0
    assert trend.correlation is None


@given(
    LOGITS,
    st.integers(0, 2**32 - 1),
)
def test_a_correlation_is_one_whatever_the_rounding(rewards: list[float], seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 9_000, size=len(rewards)).tolist()
    correlation = calibration(rewards, lengths).length_correlation
    assert correlation is None or -1 <= correlation <= 1


@pytest.mark.parametrize(
    ("rewards", "lengths", "words"),
    [
        pytest.param([], [], "0 distinct among 0", id="none"),
        pytest.param([1.0], [3], "1 distinct among 1", id="one"),
        pytest.param([1.0, 1.0], [3, 4], "1 distinct among 2", id="equal"),
        pytest.param([1.0, math.nan], [3, 4], r"rewards\[1\]: nan is not finite", id="NaN"),
        pytest.param([math.inf, 1.0], [3, 4], r"rewards\[0\]: inf is not finite", id="infinite"),
        pytest.param([1.0, 2.0], [3], "1 for 2 rewards", id="a length is missing"),
        pytest.param([1e308, -1e308], [3, 4], "no standard deviation", id="too far apart"),
        pytest.param([0.0, 5e-324], [3, 4], "no standard deviation", id="too close"),
    ],
)
def test_what_has_no_spread_cannot_be_fitted(
    rewards: list[float], lengths: list[int], words: str
) -> None:
    with pytest.raises(CalibrationError, match=words):
        fit(rewards, lengths, fingerprint="feed", name="questions", sha256=SHA256)


@given(LOGITS)
def test_what_is_loaded_is_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, rewards: list[float]
) -> None:
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    made = calibration(rewards)
    made.save(path)
    loaded = Calibration.load(path)
    assert loaded == made
    assert loaded.id == made.id
    assert [file.name for file in path.parent.iterdir()] == ["calibration.json"]


def test_the_id_goes_with_the_content() -> None:
    made = calibration([1.0, 2.0])
    assert calibration([1.0, 2.0]).id == made.id
    assert calibration([1.0, 2.5]).id != made.id
    assert calibration([1.0, 2.0], [10, 12]).id != made.id


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"format": 2}, "format: 2", id="version"),
        pytest.param({"colour": 1}, "colour: unknown key", id="unknown field"),
        pytest.param({"mean": 0.5}, "the file was changed", id="edited"),
        pytest.param({"id": "beef"}, "id: 'beef'", id="other id"),
        pytest.param({"mean": math.nan}, "mean: nan", id="not finite"),
        pytest.param({"rewards": [2.0, 1.0]}, "rewards: not in rising order", id="unsorted"),
        pytest.param({"rewards": [2.0]}, "rewards: 1 numbers", id="too few"),
        pytest.param({"lengths": [1] * 1002}, "lengths: 1002 numbers", id="too many"),
        pytest.param({"standard_deviation": 0}, "standard_deviation: 0", id="no spread"),
    ],
)
def test_a_file_that_does_not_hold_together_is_one_line(
    tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    path = tmp_path / "calibration.json"
    calibration([1.0, 2.0]).save(path)
    change(path, **fields)
    with pytest.raises(ServerStartError) as caught:
        Calibration.load(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"calibration: {path}: ")
    assert message.endswith("make it again with `medpref calibrate`")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "no such file; make one with `medpref calibrate`", id="missing"),
        pytest.param(b"{", "cannot be read as JSON", id="malformed"),
        pytest.param(b"\xff", "cannot be read as JSON", id="no text"),
        pytest.param(b"[1]", "expected a JSON object", id="no object"),
    ],
)
def test_a_file_that_is_no_artefact_is_one_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServerStartError, match=words):
        Calibration.load(path)


def test_a_calibration_serves_the_model_it_was_made_for_and_no_other() -> None:
    made = calibration([1.0, 2.0])
    require(made, "feed")
    with pytest.raises(
        ServerStartError, match="made for the reward model feed, but served is beef"
    ):
        require(made, "beef")
