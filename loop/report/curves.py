"""The curves of a run: five measures over its policy versions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from loop.report.charts import Measure, Panel, Reading, draw_panel
from loop.report.words import GOLD_PLACES
from loop.summary import Heldout, Summary
from policy.client import BASE

PROXY = Measure("Proxy reward", "what the loop optimises", "proxy", 2, least_span=0.2)
GOLD = Measure(
    "Gold",
    "independent, unseen by the loop",
    "gold",
    GOLD_PLACES,
    least_span=0.1,
    bounds=(0, 1),
    absent="This world knows no truth to measure against.",
)
WINS = Measure(
    "Win rate against base",
    "by proxy reward, 95 % interval",
    "proxy",
    2,
    least_span=0.3,
    bounds=(0, 1),
    reference=0.5,
)
LENGTH = Measure("Length", "tokens an answer", "plain", 1, least_span=10, bounds=(0, float("inf")))
KL = Measure("KL to base", "nats an answer", "plain", 1, least_span=2, bounds=(0, float("inf")))


class Ancestry(NamedTuple):
    """How a policy version came to be."""

    version: str
    parent: str
    is_promoted: bool
    heldout: Heldout | None


def lineage(summary: Summary) -> Iterator[Ancestry]:
    """Every round's version with the one that it was trained from: the last promoted before it."""
    current = BASE
    for played in summary.rounds:
        is_promoted = played.gate.decision == "promoted"
        yield Ancestry(played.policy_version, current, is_promoted, played.heldout)
        current = played.policy_version if is_promoted else current


def draw_curves(summary: Summary) -> list[Panel]:
    """One panel a measure; none before the base policy is measured.

    The base against itself wins half and has no divergence: so much is known without measuring.
    """
    base = summary.baseline
    if base.length_tokens is None:
        return []
    # A difference is told from noise on the scale of the answers' own length.
    length = replace(LENGTH, least_span=0.4 * base.length_tokens)
    has_wins = any(r.heldout and r.heldout.win_rate_vs_base is not None for r in summary.rounds)
    has_kl = any(r.heldout and r.heldout.kl_to_base is not None for r in summary.rounds)
    return [
        _panel(summary, PROXY, base.proxy_reward, lambda heldout: heldout.proxy_reward),
        _panel(summary, GOLD, base.gold, lambda heldout: heldout.gold),
        _panel(summary, WINS, 0.5 if has_wins else None, lambda heldout: heldout.win_rate_vs_base),
        _panel(summary, length, base.length_tokens, lambda heldout: heldout.length_tokens),
        _panel(summary, KL, 0.0 if has_kl else None, lambda heldout: heldout.kl_to_base),
    ]


def _panel(
    summary: Summary,
    measure: Measure,
    base: float | None,
    read: Callable[[Heldout], float | None],
) -> Panel:
    readings = {} if base is None else {BASE: Reading(BASE, base)}
    for version, parent, is_promoted, heldout in lineage(summary):
        value = read(heldout) if heldout else None
        if heldout and value is not None:
            interval = heldout.win_rate_ci95 if measure is WINS else None
            readings[version] = Reading(version, value, is_promoted, parent, interval)
    versions = [BASE, *(played.policy_version for played in summary.rounds)]
    return draw_panel(measure, versions, readings)
