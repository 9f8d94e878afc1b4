"""Results as an evaluation leaves them, whole and damaged."""

from __future__ import annotations

from benchmarks.published import PublishedRow
from benchmarks.results import (
    Calibration,
    CalibrationBin,
    Controls,
    Counts,
    LengthBucket,
    Results,
    Score,
    Sensitivity,
)

PUBLISHED = (
    PublishedRow(
        "FsfairX-LLaMA3-RM-v0.1",
        "UltraMedical, arXiv 2406.03949",
        {"Easy": 92.86, "Hard": 70.41, "Length": 67.22, "Human": 73.62},
        76.03,
    ),
    PublishedRow(
        "UltraMedRM-8B",
        "UltraMedical, arXiv 2406.03949",
        {"Easy": 94.12, "Hard": 73.47, "Length": 77.22, "Human": 77.30},
        80.53,
    ),
    PublishedRow(
        "pair-preference-model-LLaMA3-8B",
        "UltraMedical, arXiv 2406.03949",
        {"Easy": 95.8, "Hard": 72.7, "Length": 70.56, "Human": 74.85},
        78.48,
        "pairwise",
    ),
    PublishedRow("Without parts", "a leaderboard", {}, None),
)


def score(value: float | None, n: int, width: float = 0.04) -> Score:
    if value is None:
        return Score(score=None, n=n, ci95=None)
    return Score(score=value, n=n, ci95=(max(value - width, 0.0), min(value + width, 1.0)))


SECTIONS = {
    "Easy": score(0.912, 238),
    "Hard": score(0.704, 196, 0.064),
    "Length": score(0.689, 180, 0.067),
    "Human": score(0.742, 163, 0.068),
}

BUCKETS = (
    LengthBucket(name="shorter_by_2x", n=21, score=0.381),
    LengthBucket(name="shorter", n=160, score=0.594),
    LengthBucket(name="as_long", n=204, score=0.765),
    LengthBucket(name="longer", n=352, score=0.861),
    LengthBucket(name="longer_by_2x", n=0, score=None),
)


def calibration() -> Calibration:
    rows = [
        (0.521, 0.55, 88),
        (0.574, 0.571, 91),
        (0.626, 0.61, 84),
        (0.674, 0.62, 70),
        (0.724, 0.69, 77),
        (0.776, 0.71, 69),
        (0.823, 0.78, 64),
        (0.877, 0.8, 90),
        (0.925, 0.88, 144),
    ]
    bins = [
        CalibrationBin(
            low=0.5 + place / 20, high=0.55 + place / 20, n=n, mean_probability=p, accuracy=right
        )
        for place, (p, right, n) in enumerate(rows)
    ]
    bins.append(CalibrationBin(low=0.95, high=1.0, n=0, mean_probability=None, accuracy=None))
    return Calibration(
        expected_error=0.041, log_loss=0.512, brier=0.169, temperature=1.31, bins=tuple(bins)
    )


def medical() -> Results:
    """A whole evaluation with every control."""
    return Results(
        benchmark="medical-rewardbench",
        model="org/our-medical-rm",
        overall=0.7618,
        overall_ci95=(0.731, 0.792),
        sections=SECTIONS,
        subsets=SECTIONS,
        controls=Controls(
            longer_wins=score(0.603, 777),
            shuffled_question=score(0.561, 777),
            empty_question=score(0.588, 777),
            swapped_order=Sensitivity(n=777, largest_change=0.0, changed_order=0),
            batch_composition=Sensitivity(n=64, largest_change=4.1e-6, changed_order=1),
            by_length=BUCKETS,
            calibration=calibration(),
        ),
        counts=Counts(groups=777, scored=777, failed=0),
        fingerprint="5f0c91d2a4b7e833",
        settings={
            "source": "TsinghuaC3I/UltraMedical-Preference",
            "split": "test",
            "ties": "half",
            "endpoint": {"url": "http://127.0.0.1:8100", "wire": "native"},
            "seed": 0,
        },
        partial=False,
    )


def damaged() -> Results:
    """A part of RewardBench: sections missing, groups failed, no control."""
    return Results(
        benchmark="rewardbench",
        model="<b>bold</b> | default",
        overall=0.5,
        overall_ci95=(0.25, 0.75),
        sections={"Chat": score(0.5, 4, 0.25), "Safety": score(None, 0)},
        subsets={"alpacaeval-easy": score(0.5, 4, 0.25)},
        alternatives={"without_prior_sets": {"overall": score(0.5, 4, 0.25)}},
        controls=Controls(),
        counts=Counts(groups=6, scored=4, failed=2, errors={"timeout": 2}),
        fingerprint=None,
        settings={},
        partial=True,
        partial_reasons=(
            "2 groups have no reward for every candidate (timeout 2)",
            "missing: Chat Hard",
        ),
    )
