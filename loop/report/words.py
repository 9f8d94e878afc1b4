"""A run in words: its result in sentences, and what to be careful about. Pure."""

from __future__ import annotations

from foundation.words import SPACE, count, decimal, listed, share, signed
from loop.summary import Level, Summary
from policy.client import BASE

GOLD_PLACES = 3
"""A gain in word overlap with a reference is a few thousandths, and still a gain."""


def growth(value: float, before: float) -> str:
    """``4 % longer``, ``3 % shorter`` or ``as long``."""
    change = round(100 * (value / before - 1))
    if not change:
        return "as long"
    return f"{abs(change)}{SPACE}% {'longer' if change > 0 else 'shorter'}"


def tell_result(summary: Summary, *, planned: int, questions: int) -> str:
    """What came out so far, in one to three sentences.

    Args:
        summary: the run.
        planned: rounds that the recipe asks for.
        questions: held-out questions that the base policy answered.
    """
    outcome = _outcome(summary, planned=planned, questions=questions)
    if summary.status != "failed":
        return outcome
    reason = f": {summary.error.rstrip('.')}" if summary.error else ""
    return f"The run failed{reason}. {outcome}"


def tell_cautions(summary: Summary) -> list[str]:
    """What a reader should not overlook, one sentence each."""
    failed = sum(played.deploy.failed_requests for played in summary.rounds)
    unproven = [r.policy_version for r in summary.rounds if r.deploy.verified is False]
    found = []
    if _has_hollow_gain(summary):
        found.append("The proxy reward rose while gold fell: the reward model is over-optimised.")
    if _may_be_chance(summary):
        found.append("The interval of the gain in gold includes zero: it may be chance.")
    if failed:
        found.append(f"{count(failed, 'request')} failed while a policy was being redeployed.")
    if unproven:
        found.append(f"Not proven to be served as it was trained: {listed(unproven)}.")
    return found


def _outcome(summary: Summary, *, planned: int, questions: int) -> str:
    if summary.baseline.proxy_reward is None:
        return "Nothing has been measured yet."
    asked = f"on {count(questions, 'held-out question')}"
    if not summary.rounds:
        return (
            f"No round is finished yet. The base policy shows {_level(summary.baseline)} {asked}."
        )
    played = _rounds(summary, planned)
    if summary.final.policy_version == BASE:
        return f"{played}, the base policy is still served: {_level(summary.baseline)} {asked}."
    first, *others = _changes(summary)
    more = f" {_capital(listed(others))}." if others else ""
    return f"{played}, {first} {asked}.{more}"


def _rounds(summary: Summary, planned: int) -> str:
    played = len(summary.rounds)
    promoted = sum(r.gate.decision == "promoted" for r in summary.rounds)
    of = f"{played} of {count(planned, 'round')}" if played < planned else count(played, "round")
    return f"After {of}, {promoted or 'none'} promoted"


def _level(level: Level) -> str:
    gold = [f"gold {decimal(level.gold, GOLD_PLACES)}"] if level.gold is not None else []
    proxy = f"a proxy reward of {decimal(level.proxy_reward)}"
    return listed([*gold, proxy, f"{decimal(level.length_tokens, 0)} tokens an answer"])


def _changes(summary: Summary) -> list[str]:
    """Gold where it is known, proxy reward, wins and length: one clause each."""
    before, after = summary.baseline, summary.final
    clauses = [_gold_change(summary)] if after.gold is not None else []
    proxy = f"{decimal(before.proxy_reward)} to {decimal(after.proxy_reward)}"
    clauses.append(f"the proxy reward went from {proxy}")
    wins = {r.policy_version: r.heldout.win_rate_vs_base for r in summary.rounds if r.heldout}
    win = wins.get(after.policy_version)
    if win is not None:
        clauses.append(f"the served policy wins {share(win)} of comparisons with the base")
    if after.length_tokens and before.length_tokens:
        clauses.append(f"its answers are {growth(after.length_tokens, before.length_tokens)}")
    return clauses


def _gold_change(summary: Summary) -> str:
    before, after = summary.baseline, summary.final
    moved = f"from {decimal(before.gold, GOLD_PLACES)} to {decimal(after.gold, GOLD_PLACES)}"
    if after.gold_gain_ci95 is None:
        return f"gold went {moved}"
    low, high = after.gold_gain_ci95
    verb = "rose" if low > 0 else "fell" if high < 0 else "went"
    gain, low_end, high_end = (signed(g, GOLD_PLACES) for g in (after.gold_gain, low, high))
    interval = f"95{SPACE}% interval {low_end} to {high_end}"
    return f"gold {verb} {moved} (gain {gain}, {interval})"


def _has_hollow_gain(summary: Summary) -> bool:
    before, after = summary.baseline.proxy_reward, summary.final.proxy_reward
    gain = summary.final.gold_gain_ci95
    if before is None or after is None or gain is None:
        return False
    return gain[1] < 0 and after > before


def _may_be_chance(summary: Summary) -> bool:
    gain = summary.final.gold_gain_ci95
    has_moved = summary.final.policy_version != BASE
    return bool(has_moved and gain and gain[0] <= 0 <= gain[1])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
