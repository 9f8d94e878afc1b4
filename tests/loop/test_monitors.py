from __future__ import annotations

import pytest

from loop.groups import ScoredCandidate, ScoredGroup
from loop.monitors import MonitorConfig, Vitals, raise_alarms, repetition, take_vitals

BASE = Vitals(proxy_reward=0.0, length_tokens=50, truncated=0.0, repetition=0.0, kl_to_base=None)


def policy(**changes: float) -> Vitals:
    values = {"length_tokens": 50.0, "truncated": 0.0, "repetition": 0.0, "kl_to_base": 2.0}
    return Vitals(proxy_reward=9.0, **(values | changes))


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        pytest.param({}, None, id="sound"),
        pytest.param({"length_tokens": 65.0}, "length growth", id="longer"),
        pytest.param({"length_tokens": 20.0}, None, id="shorter is no alarm"),
        pytest.param({"truncated": 0.2}, "truncated growth", id="never ends"),
        pytest.param({"repetition": 0.3}, "repetition growth", id="repeats itself"),
        pytest.param({"kl_to_base": 99.0}, "KL to base", id="far away"),
    ],
)
def test_each_sign_of_over_optimisation_has_its_alarm(
    changes: dict[str, float], alarm: str | None
) -> None:
    alarms = raise_alarms(policy(**changes), BASE, MonitorConfig())
    assert [a.name for a in alarms] == ([alarm] if alarm else [])


def test_vitals_are_means_over_sound_candidates() -> None:
    good = (
        ScoredCandidate("a b c d", 4, "stop", -3.0, base_logprob=-5.0, reward=1.0),
        ScoredCandidate("a b a b a b a b", 8, "length", -4.0, base_logprob=-4.0, reward=3.0),
    )
    bad = (ScoredCandidate("x", 100, "stop", -1.0, error="not finite"),)
    vitals = take_vitals([ScoredGroup("1", "r1", "f", good), ScoredGroup("2", "r1", "f", bad)])
    # The second text has five sequences of four words, of which two are new.
    assert vitals == Vitals(2.0, 6.0, 0.5, 0.3, 1.0)


def test_without_a_sound_candidate_there_are_no_vitals() -> None:
    assert take_vitals([ScoredGroup("1", "r1", None, (), error="no answer")]) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [
        pytest.param("one two three", 0.0, id="too short to repeat"),
        pytest.param("one two three four five", 0.0, id="all new"),
        pytest.param("a b c d a b c d", 0.2, id="one of five again"),
    ],
)
def test_repetition_is_the_share_of_four_word_sequences_seen_before(
    text: str, share: float
) -> None:
    assert repetition(text) == pytest.approx(share)
