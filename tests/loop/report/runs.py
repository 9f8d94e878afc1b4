"""Run folders as a real run leaves them: a ledger, pairs built by the rules, a summary."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from corpora.conversation import Conversation
from corpora.preference import write_pairs
from corpora.world import Question
from foundation.settings import load_settings
from loop.config import Recipe
from loop.folder import RunFolder, open_run_folder
from loop.groups import ScoredCandidate, ScoredGroup
from loop.ledger import Ledger
from loop.pairs import PairConfig, build_pairs
from loop.summary import (
    DeployOutcome,
    Final,
    GateOutcome,
    Heldout,
    Level,
    PhaseSeconds,
    RewardModelSummary,
    RoundSummary,
    Status,
    Summary,
)

RECIPE = Path(__file__).parents[3] / "recipes" / "quickstart.toml"
UNTRAINED = "5 pairs of 8 needed: nothing was trained"
BASELINE = Level(proxy_reward=-0.31, gold=0.52, length_tokens=43.0)
NOWHERE = Level(proxy_reward=None, gold=None, length_tokens=None)
ASKED = (
    "What causes {}?",
    "How can I tell that I have {}?",
    "What helps with {} at home?",
    "When should I see a doctor about {}?",
)
ABOUT = ("hay fever", "a cold", "migraine", "bronchitis", "eczema", "a sprained ankle")
OPENINGS = ("Rest and drink enough.", "It often passes by itself.", "Ask a pharmacist first.")
ENDINGS = (
    "Sleep with the head raised, and see a doctor if it lasts for more than ten days.",
    "Keep the windows closed in the evening, when there is most pollen in the air.",
    "Rinse the nose with salt water twice a day and leave the antibiotics where they are.",
    "It is a virus, it is a virus, it is a virus, and so on.",
)


def play(
    number: int, *, step: float, decision: str = "promoted", version: str = ""
) -> RoundSummary:
    """A round that was trained, ``step`` steps away from the base."""
    is_promoted = decision == "promoted"
    win = min(0.5 + 0.11 * step, 0.97)
    current = 0.5 + 0.12 * (1 if is_promoted else -0.05)
    return RoundSummary(
        round=number,
        policy_version=version or f"r{number}",
        prompts=144,
        candidates=1152,
        pairs=251 - 13 * number,
        dropped={"tie": 0, "margin": 9 + number, "duplicate": 31, "truncated": 4, "error": 0},
        heldout=Heldout(
            proxy_reward=-0.31 + 0.8 * step,
            gold=min(0.52 + 0.09 * step, 0.98),
            length_tokens=43.0 + 0.6 * step,
            kl_to_base=1.9 * abs(step) ** 1.2,
            win_rate_vs_base=win,
            win_rate_ci95=(win - 0.041, min(win + 0.04, 1.0)),
            truncated=0.003 * abs(step),
            repetition=0.011,
        ),
        gate=GateOutcome(
            decision="promoted" if is_promoted else "refused",
            reason=f"win rate {current:.3f} [{current - 0.03:.3f}, {current + 0.031:.3f}] against"
            f" the current policy {'clears' if is_promoted else 'does not clear'} 0.5",
            win_rate_vs_current=current,
            win_rate_vs_current_ci=(current - 0.03, current + 0.031),
        ),
        deploy=DeployOutcome(
            seconds=0.084 if is_promoted else None,
            verified=True,
            max_abs_difference=4.1e-6,
            requests=212,
            failed_requests=0,
        ),
        phase_seconds=PhaseSeconds(
            sample_and_score=21.3, pairs=0.03, train=18.2 + step, gate=7.9, deploy=0.9, total=49.33
        ),
    )


def skip(number: int) -> RoundSummary:
    """A round with too few pairs: nothing was trained, nothing measured."""
    played = play(number, step=0)
    nothing = DeployOutcome(
        seconds=None, verified=None, max_abs_difference=None, requests=0, failed_requests=0
    )
    refusal = GateOutcome(
        decision="refused", reason=UNTRAINED, win_rate_vs_current=None, win_rate_vs_current_ci=None
    )
    seconds = played.phase_seconds.model_copy(update={"train": 0.0, "deploy": 0.0})
    update = {"heldout": None, "gate": refusal, "deploy": nothing, "phase_seconds": seconds}
    return played.model_copy(update=update)


def sum_up(
    rounds: Sequence[RoundSummary] = (),
    *,
    status: Status = "completed",
    error: str | None = None,
    baseline: Level = BASELINE,
    trained_here: bool = True,
) -> Summary:
    """The summary of a run that played ``rounds``."""
    promoted = [r for r in rounds if r.gate.decision == "promoted" and r.heldout]
    served = promoted[-1].heldout if promoted else None
    level = Level.model_validate((served or baseline).model_dump(include=set(Level.model_fields)))
    gain = level.gold - baseline.gold if level.gold is not None and baseline.gold else None
    return Summary(
        run="quickstart",
        status=status,
        error=error,
        seed=0,
        world="clinic",
        reference="base",
        baseline=baseline,
        rounds=list(rounds),
        final=Final(
            **level.model_dump(),
            policy_version=promoted[-1].policy_version if promoted else "base",
            gold_gain=gain,
            gold_gain_ci95=None if gain is None else (gain - 0.04 * (gain > 0), gain + 0.04),
        ),
        reward_model=RewardModelSummary(
            fingerprint="5f0c91d2a4b7e833",
            heldout_accuracy=0.914 if trained_here else None,
            length_only_accuracy=0.623 if trained_here else None,
        ),
        seconds=171.0 + sum(r.phase_seconds.total for r in rounds),
    )


def without_gold(summary: Summary) -> Summary:
    """The same run in a world whose truth is not known."""
    content = summary.model_dump()
    levels = [content["baseline"], content["final"], *(r["heldout"] for r in content["rounds"])]
    for level in filter(None, levels):
        level["gold"] = None
    content["final"] |= {"gold_gain": None, "gold_gain_ci95": None}
    return Summary.model_validate(content)


def questions(count: int) -> list[Question]:
    """Questions with stable ids."""
    return [
        Question(
            f"clinic/{n:03d}",
            Conversation.ask(ASKED[n % 4].format(ABOUT[n // 4 % 6])),
        )
        for n in range(count)
    ]


def answer(question: Question, version: str, *, seed: int, text: str = "") -> ScoredGroup:
    """Eight scored candidates, the last of them a duplicate and one truncated."""
    dice = random.Random(f"{seed}:{question.id}:{version}")
    texts = dice.sample([f"{opening} {ending}" for opening in OPENINGS for ending in ENDINGS], 7)
    texts[3] = text or texts[3]
    candidates = [
        ScoredCandidate(
            text=each,
            length_tokens=20 + len(each) // 4,
            finish_reason="length" if n == 2 else "stop",
            logprob=-31.0,
            reward=round(dice.gauss(0.4, 1.3), 3),
        )
        for n, each in enumerate(texts)
    ]
    return ScoredGroup(question.id, version, "5f0c91d2a4b7e833", (*candidates, candidates[0]))


def write_run(path: Path, summary: Summary, *, text: str = "") -> RunFolder:
    """A run folder with the ledger, the pairs and the settings that go with a summary.

    Args:
        path: the folder; it must not hold a run yet.
        summary: what its ``summary.json`` says.
        text: what one candidate of every group says.
    """
    folder = open_run_folder(path, load_settings(Recipe, RECIPE), resume=False)
    folder.summary.write_text(summary.model_dump_json(indent=2), encoding="utf-8")
    with Ledger(path) as ledger:
        if summary.baseline.proxy_reward is not None:
            for question in questions(40):
                ledger.add_group("heldout/base", answer(question, "base", seed=0))
        for played in summary.rounds:
            _write_round(folder, ledger, played, text)
    return folder


def _write_round(folder: RunFolder, ledger: Ledger, played: RoundSummary, text: str) -> None:
    asked = questions(12 if played.heldout else 0)
    groups = [answer(question, "base", seed=played.round, text=text) for question in asked]
    for group in groups:
        ledger.add_group(f"round/{played.round}", group)
    config = PairConfig(per_group=2, min_margin=0.5)
    built = build_pairs(groups, {q.id: q for q in asked}, config, round_number=played.round)
    folder.round(played.round).mkdir(parents=True)
    write_pairs(folder.round(played.round) / "pairs.jsonl", built.pairs)
