"""``medpref calibrate``: how a served reward model's rewards are spread over a reference set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from corpora.streams import file_sha256
from foundation.errors import UserError
from foundation.parsing import Parser, add_settings, read_settings
from foundation.reporting import Reporter
from medpref.commands.servers import ModelSettings, meet
from reward_server import canary
from reward_server.bulk_records import read_items
from reward_server.calibration import Calibration, fit
from reward_server.canary import (
    FULL_PRECISION_TOLERANCE,
    OTHER_TOLERANCE,
    Canary,
    default_tolerance,
)
from reward_server.client import ClientOptions, RewardClient
from reward_server.protocol import GroupResult, ModelInfo, ScoreGroup

CANARY_GROUPS = 16
"""Enough to see a change, few enough to score again every few minutes."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class CalibrateSettings(ModelSettings):
    """The flags."""

    canary: Path | None = Field(
        default=None,
        description=f"Also write up to {CANARY_GROUPS} of the groups, with their texts and "
        "rewards, into this file, for the server to score again while it runs; it must not exist.",
    )
    canary_tolerance: float | None = Field(
        default=None,
        ge=0,
        description="How far a reward of the canary may move without an alarm. Default: "
        f"{FULL_PRECISION_TOLERANCE} for a float32 model, else {OTHER_TOLERANCE}.",
    )


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """The groups of a file, and the digest of its bytes."""

    name: str
    sha256: str
    groups: Sequence[ScoreGroup]


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """A reference set and its results, group by group, all from ``model``."""

    reference: ReferenceSet
    results: Sequence[GroupResult]
    model: ModelInfo


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    settings = read_settings(CalibrateSettings, given)
    options = settings.client_options(settings.model)
    _check_outputs(given.output, settings.canary)
    reference = read_reference(given.groups)
    with Reporter() as reporter:
        scored = score(settings.server, options, reference, reporter)
        _tell_failures(scored.results, reporter)
        calibration = calibrate(scored)
        kept = pick_canary(scored, settings.canary_tolerance) if settings.canary else None
        calibration.save(given.output)
        if settings.canary and kept:
            kept.save(settings.canary)
        reporter.event("model.calibrated", _sentence(calibration, kept), **_fields(calibration))
    return 0


def read_reference(path: Path) -> ReferenceSet:
    """The groups of a file, in any form that ``medpref score`` reads.

    Raises:
        UserError: naming the file that cannot be read, or file, line and field of the first record
            that does not fit.
    """
    groups = [item.group for item in read_items(path)]
    if not groups:
        raise UserError(f"{path}: holds no group; give a file with at least one")
    return ReferenceSet(path.name, file_sha256(path), groups)


def score(
    url: str, options: ClientOptions, reference: ReferenceSet, reporter: Reporter
) -> ScoredSet:
    """The rewards of a reference set, all from the model that is served at the start.

    Raises:
        FingerprintMismatch: if another model is served before the end.
        RewardServerError: what the server answered instead.
        RewardServerUnreachable: if it does not answer.
    """
    model = meet(url, options)
    groups, results = reference.groups, list[GroupResult]()
    with (
        RewardClient(url, options) as client,
        closing(client.score_stream(groups, expected_fingerprint=model.fingerprint)) as stream,
    ):
        for group in stream:
            results.append(group.result)
            reporter.progress("scoring", len(results), len(groups))
    return ScoredSet(reference, results, model)


def calibrate(scored: ScoredSet) -> Calibration:
    """The calibration from every candidate that has a reward.

    Raises:
        CalibrationError: if they are too few or do not differ.
    """
    candidates = [result for group in scored.results for result in group.results]
    rewarded = [(item.reward, item.tokens) for item in candidates if item.reward is not None]
    return fit(
        [reward for reward, _ in rewarded],
        [tokens for _, tokens in rewarded],
        fingerprint=scored.model.fingerprint,
        name=scored.reference.name,
        sha256=scored.reference.sha256,
    )


def pick_canary(scored: ScoredSet, tolerance: float | None) -> Canary:
    """Groups from all over the reference set whose candidates all have rewards.

    Raises:
        CalibrationError: if there is no such group.
    """
    sound = [
        (group, result)
        for group, result in zip(scored.reference.groups, scored.results, strict=True)
        if all(item.reward is not None for item in result.results)
    ]
    picked = sound[:: max(1, len(sound) // CANARY_GROUPS)][:CANARY_GROUPS]
    if tolerance is None:
        tolerance = default_tolerance(scored.model.identity.dtype)
    return canary.make(
        [group for group, _ in picked],
        [result for _, result in picked],
        scored.model.fingerprint,
        tolerance=tolerance,
    )


def _parser() -> Parser:
    parser = Parser(
        "medpref calibrate",
        "Score a reference set with a served reward model and write how its rewards are spread:\n"
        "what the server needs to say where a reward stands and whether traffic has drifted.",
        examples="""  medpref calibrate reference.jsonl calibration.json --server http://127.0.0.1:8100
  medpref calibrate reference.jsonl calibration.json --server https://rewards.example \\
      --model medical --api-key-env REWARD_KEY --canary canary.json""",
    )
    parser.add_argument(
        "groups",
        type=Path,
        metavar="IN",
        help="the reference set: groups in any form that medpref score reads",
    )
    parser.add_argument("output", type=Path, metavar="OUT.json", help="must not exist")
    add_settings(parser, CalibrateSettings)
    return parser


def _check_outputs(*outputs: Path | None) -> None:
    given = [path for path in outputs if path is not None]
    for path in given:
        if path.exists():
            raise UserError(f"{path}: exists already; name another file")
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"{path}: {path.parent} is no folder to write in; name another file")
    if len(set(given)) < len(given):
        raise UserError(f"--canary: {given[-1]} is the calibration's file; name another one")


def _tell_failures(results: Sequence[GroupResult], reporter: Reporter) -> None:
    errors = [item.error.code for group in results for item in group.results if item.error]
    if not errors:
        return
    counts = dict(Counter(errors))
    listed = ", ".join(f"{code} {count}" for code, count in counts.items())
    sentence = f"{len(errors)} candidates got no reward and do not count: {listed}"
    reporter.event("candidates.failed", sentence, **counts)


def _quantiles(calibration: Calibration) -> dict[str, float]:
    values = np.quantile(calibration.rewards_G, QUANTILES).tolist()
    return {f"{q:.0%}": round(value, 6) for q, value in zip(QUANTILES, values, strict=True)}


def _fields(calibration: Calibration) -> dict[str, Any]:
    return {
        "calibration": calibration.id,
        "fingerprint": calibration.fingerprint,
        "rewards": calibration.reference.size,
        "mean": calibration.mean,
        "standard_deviation": calibration.standard_deviation,
        "quantiles": _quantiles(calibration),
        "length_correlation": calibration.length_correlation,
        "length_slope": calibration.length_slope,
    }


def _sentence(calibration: Calibration, kept: Canary | None) -> str:
    quantiles = "  ".join(f"{q} {value:.3g}" for q, value in _quantiles(calibration).items())
    lines = [
        f"calibration {calibration.id} of reward model {calibration.fingerprint}",
        f"{calibration.reference.size} rewards: mean {calibration.mean:.3g}, "
        f"standard deviation {calibration.standard_deviation:.3g}",
        f"quantiles: {quantiles}",
        _length_sentence(calibration),
    ]
    if kept is not None:
        lines.append(f"canary {kept.id}: {len(kept.groups)} groups, tolerance {kept.tolerance:g}")
    return "\n        ".join(lines)


def _length_sentence(calibration: Calibration) -> str:
    correlation, slope = calibration.length_correlation, calibration.length_slope
    if correlation is None or slope is None:
        return "correlation with length: none, all inputs are equally long"
    return f"correlation with length: {correlation:+.2f}, {100 * slope:+.3g} a hundred tokens"
