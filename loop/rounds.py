"""One round: sample → score → pair → train → gate → deploy.

The served policy answers the round's questions, the reward server scores every candidate as it
arrives, pairs are built, and an adapter is trained on them, from the last promoted one against the
fixed base. It is staged in the running server beside the served policy and answers the held-out
questions; the gate compares. A promoted policy is what later rounds sample from; a refused one is
unloaded, and the run goes on with the old policy.

Each step's outcome stands in the ledger before the next step begins, so a round can be entered
again at any point.
"""

from __future__ import annotations

import time
from collections import deque

from corpora.preference import write_pairs
from foundation.progress import TrainingProgress
from loop.gate import GateDecision, WinRate, decide, win_rate
from loop.groups import ScoredGroup
from loop.monitors import Alarm, raise_alarms, take_vitals
from loop.pairs import build_pairs
from loop.run import Outcome, Run
from policy.client import BASE
from policy.deploy import Staged
from policy.errors import DeployRefused


async def play_round(run: Run, number: int) -> None:
    """Plays a round, or what is left of it."""
    await run.step(number, "sample_and_score", sample_and_score)
    pairs = await run.step(number, "pairs", pair)
    if pairs["pairs"] < run.recipe.pairs.min_pairs:
        await run.step(number, "gate", refuse_untrained)
        return
    await run.step(number, "train", train)
    verdict = await run.step(number, "gate", judge)
    promoted = verdict["decision"] == "promoted"
    await run.step(number, "deploy", deploy if promoted else withdraw)


async def sample_and_score(run: Run, number: int) -> Outcome:
    """The served policy answers the round's questions; the reward server scores the answers."""
    groups = await run.answer_round(number)
    return {"prompts": len(groups), "candidates": sum(len(g.candidates) for g in groups)}


async def pair(run: Run, number: int) -> Outcome:
    """The round's scored groups become its pairs."""
    questions = run.world.round_questions(number, run.recipe.data.round_questions)
    by_id = {question.id: question for question in questions}
    groups = run.ledger.groups(f"round/{number}")
    built = build_pairs(groups, by_id, run.recipe.pairs, round_number=number)
    folder = run.folder.round(number)
    folder.mkdir(exist_ok=True)
    write_pairs(folder / "pairs.jsonl", built.pairs)
    dropped = {str(reason): count for reason, count in built.dropped.items()}
    return {"pairs": len(built.pairs), "dropped": dropped}


async def train(run: Run, number: int) -> Outcome:
    """An adapter is trained on the pairs, from the last promoted one against the fixed base."""
    current = run.current_version
    task = f"round {number}: training"

    def show(progress: TrainingProgress) -> None:
        run.reporter.progress(task, progress.step, progress.total_steps)

    return await run.services.trainer.run(
        "train_round",
        run.recipe,
        run.base_model,
        run.folder.round(number) / "pairs.jsonl",
        None if current == BASE else run.folder.policy(current),
        run.folder.policy(f"r{number}"),
        on_progress=show,
    )


async def judge(run: Run, number: int) -> Outcome:
    """The trained policy is staged beside the served one and compared on held-out questions."""
    version = f"r{number}"
    async with run.traffic() as traffic:
        try:
            staged = await stage(run, version)
        except DeployRefused as refusal:
            return _verdict(GateDecision("refused", str(refusal)), None, staged=None)
    challenger = await run.answer_heldout(version)
    champion = run.ledger.groups(f"heldout/{run.current_version}")
    evidence = win_rate(
        challenger, champion, seed=run.recipe.seed, confidence=run.recipe.gate.confidence
    )
    base = run.ledger.groups(f"heldout/{BASE}")
    decision = decide(evidence, _alarms(run, challenger, base), run.recipe.gate)
    requests = {"requests": traffic.requests, "failed_requests": traffic.failed_requests}
    return _verdict(decision, evidence, staged=_staged(staged) | requests)


async def refuse_untrained(run: Run, number: int) -> Outcome:
    """A round with too few pairs trains nothing."""
    record = run.ledger.step(number, "pairs")
    count = record.output["pairs"] if record else 0
    reason = f"{count} pairs of {run.recipe.pairs.min_pairs} needed: nothing was trained"
    return _verdict(GateDecision("refused", reason), None, staged=None)


async def deploy(run: Run, number: int) -> Outcome:
    """Requests go to the new version from here on; versions that nobody needs are unloaded."""
    version = f"r{number}"
    keep = deque(run.promoted_versions(), maxlen=run.recipe.deploy.keep_previous)
    async with run.traffic() as traffic:
        await stage(run, version)  # already there, unless the server was restarted since the gate
        begun = time.monotonic()
        traffic.version = version
        await run.services.deployer.promote(version, keep=keep)
        seconds = time.monotonic() - begun
    return {
        "promoted": True,
        "seconds": seconds,
        "requests": traffic.requests,
        "failed_requests": traffic.failed_requests,
    }


async def withdraw(run: Run, number: int) -> Outcome:
    """A refused version leaves the server; the served policy stays as it was."""
    await run.services.deployer.withdraw(f"r{number}")
    return {"promoted": False, "seconds": None, "requests": 0, "failed_requests": 0}


async def stage(run: Run, version: str) -> Staged:
    """Loads a version under its own name and proves that what is served is what was trained.

    Raises:
        DeployRefused: if it is not; the server is as it was before.
    """
    return await run.services.deployer.stage(version, run.folder.policy(version))


def _verdict(
    decision: GateDecision, evidence: WinRate | None, *, staged: Outcome | None
) -> Outcome:
    return {
        "decision": decision.decision,
        "reason": decision.reason,
        "win_rate_vs_current": evidence.mean if evidence else None,
        "win_rate_vs_current_ci": list(evidence.interval) if evidence else None,
        "staged": staged,
    }


def _staged(staged: Staged) -> Outcome:
    verification = staged.verification
    return {
        "seconds": staged.seconds,
        "verified": verification.verified,
        "max_abs_difference": verification.max_abs_difference,
    }


def _alarms(run: Run, challenger: list[ScoredGroup], base: list[ScoredGroup]) -> list[Alarm]:
    policy_vitals, base_vitals = take_vitals(challenger), take_vitals(base)
    if policy_vitals is None or base_vitals is None:
        return []  # no comparable question either: the gate refuses
    return raise_alarms(policy_vitals, base_vitals, run.recipe.monitors)
