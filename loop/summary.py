"""The summary of a run, computed from its ledger alone: the shape of ``summary.json``.

Gold enters here and nowhere else, so nothing that decides can see it. A field that does not apply
is ``None``, never missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from corpora.world import Question, World
from loop.config import Recipe
from loop.errors import RunError
from loop.gate import gold_gain, win_rate
from loop.groups import ScoredGroup, sound_candidates
from loop.ledger import Ledger, StepRecord
from loop.monitors import take_vitals
from policy.client import BASE

Status = Literal["running", "completed", "failed"]
NOTHING_DROPPED = {"tie": 0, "margin": 0, "duplicate": 0, "truncated": 0, "error": 0}


class Level(BaseModel):
    """How a policy stands on the held-out questions: means over its candidates."""

    proxy_reward: float | None
    gold: float | None
    length_tokens: float | None


class Heldout(Level):
    """A trained policy beside the base."""

    kl_to_base: float | None
    win_rate_vs_base: float | None
    win_rate_ci95: tuple[float, float] | None
    truncated: float | None
    repetition: float | None


class GateOutcome(BaseModel):
    """What the gate said, and its evidence against the policy that was served."""

    decision: Literal["promoted", "refused"]
    reason: str
    win_rate_vs_current: float | None
    win_rate_vs_current_ci: tuple[float, float] | None


class DeployOutcome(BaseModel):
    """The redeploy: seconds to load, verify and switch; requests that were in flight meanwhile."""

    seconds: float | None
    verified: bool | None
    max_abs_difference: float | None
    requests: int
    failed_requests: int


class PhaseSeconds(BaseModel):
    """Wall time of each phase; a phase that was not reached took none."""

    sample_and_score: float
    pairs: float
    train: float
    gate: float
    deploy: float
    total: float


class RoundSummary(BaseModel):
    """One round."""

    round: int
    policy_version: str
    prompts: int
    candidates: int
    pairs: int
    dropped: dict[str, int]
    heldout: Heldout | None
    gate: GateOutcome
    deploy: DeployOutcome
    phase_seconds: PhaseSeconds


class Final(Level):
    """The policy that is served in the end."""

    policy_version: str
    gold_gain: float | None
    gold_gain_ci95: tuple[float, float] | None


class RewardModelSummary(BaseModel):
    """The proxy; accuracies are ``None`` for a model that was not trained here."""

    fingerprint: str | None
    heldout_accuracy: float | None
    length_only_accuracy: float | None


class Summary(BaseModel):
    """A run at a glance."""

    run: str
    status: Status
    error: str | None = None
    """Why a failed run ended."""
    seed: int
    world: str
    reference: str
    baseline: Level
    rounds: list[RoundSummary]
    final: Final
    reward_model: RewardModelSummary
    seconds: float
    """Wall time of every finished step, those of preparation among them."""


def summarise(
    ledger: Ledger, recipe: Recipe, world: World, *, status: Status, error: str | None = None
) -> Summary:
    """Everything that a run shows so far."""
    teller = _Teller(ledger, recipe, world)
    rounds = [teller.round(number) for number in range(1, recipe.rounds + 1) if teller.gate(number)]
    promoted = [r.policy_version for r in rounds if r.gate.decision == "promoted"]
    return Summary(
        run=recipe.name,
        status=status,
        error=error,
        seed=recipe.seed,
        world=world.name,
        reference=recipe.preference.reference,
        baseline=teller.level(BASE),
        rounds=rounds,
        final=teller.final([BASE, *promoted][-1]),
        reward_model=teller.reward_model(),
        seconds=ledger.total_seconds(),
    )


def read_summary(path: Path) -> Summary:
    """What :func:`summarise` wrote to a run folder.

    Raises:
        RunError: if the file is missing, malformed or of another version.
    """
    try:
        return Summary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; give the folder of a run") from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "content"
        raise RunError(
            f"{path}: not a summary of this version: {field}: {problem['msg']}"
        ) from None


class _Teller:
    """Reads the ledger; each method makes one part of the summary."""

    def __init__(self, ledger: Ledger, recipe: Recipe, world: World) -> None:
        self._ledger = ledger
        self._recipe = recipe
        self._world = world
        questions = world.heldout_questions(recipe.data.heldout_questions)
        self._questions = {question.id: question for question in questions}

    def gate(self, number: int) -> StepRecord | None:
        return self._ledger.step(number, "gate")

    def round(self, number: int) -> RoundSummary:
        version = f"r{number}"
        sampled = self._output(number, "sample_and_score")
        pairs = self._output(number, "pairs")
        gate = self._output(number, "gate")
        return RoundSummary(
            round=number,
            policy_version=version,
            prompts=sampled.get("prompts", 0),
            candidates=sampled.get("candidates", 0),
            pairs=pairs.get("pairs", 0),
            dropped=pairs.get("dropped", NOTHING_DROPPED),
            heldout=self._heldout(version),
            gate=GateOutcome.model_validate(gate),
            deploy=_deploy(gate.get("staged") or {}, self._output(number, "deploy")),
            phase_seconds=self._phase_seconds(number),
        )

    def level(self, version: str) -> Level:
        groups = self._groups(version)
        vitals = take_vitals(groups)
        gold = _gold(groups, self._questions, self._world)
        return Level(
            proxy_reward=vitals.proxy_reward if vitals else None,
            gold=fmean(gold.values()) if gold else None,
            length_tokens=vitals.length_tokens if vitals else None,
        )

    def final(self, version: str) -> Final:
        golds = [_gold(self._groups(v), self._questions, self._world) for v in (version, BASE)]
        gain = gold_gain(*golds, seed=self._recipe.seed)
        return Final(
            **self.level(version).model_dump(),
            policy_version=version,
            gold_gain=gain[0] if gain else None,
            gold_gain_ci95=gain[1] if gain else None,
        )

    def reward_model(self) -> RewardModelSummary:
        made = self._output(0, "reward_model")
        return RewardModelSummary(
            fingerprint=self._ledger.fact("fingerprint"),
            heldout_accuracy=made.get("heldout_accuracy"),
            length_only_accuracy=made.get("length_only_accuracy"),
        )

    def _heldout(self, version: str) -> Heldout | None:
        groups = self._groups(version)
        vitals = take_vitals(groups)
        if vitals is None:
            return None
        wins = win_rate(groups, self._groups(BASE), seed=self._recipe.seed)
        return Heldout(
            **self.level(version).model_dump(),
            kl_to_base=vitals.kl_to_base,
            win_rate_vs_base=wins.mean if wins else None,
            win_rate_ci95=wins.interval if wins else None,
            truncated=vitals.truncated,
            repetition=vitals.repetition,
        )

    def _groups(self, version: str) -> list[ScoredGroup]:
        return self._ledger.groups(f"heldout/{version}")

    def _output(self, number: int, step: str) -> dict[str, Any]:
        record = self._ledger.step(number, step)
        return record.output if record else {}

    def _phase_seconds(self, number: int) -> PhaseSeconds:
        phases = ("sample_and_score", "pairs", "train", "gate", "deploy")
        records = {phase: self._ledger.step(number, phase) for phase in phases}
        seconds = {phase: record.seconds if record else 0.0 for phase, record in records.items()}
        return PhaseSeconds(**seconds, total=sum(seconds.values()))


def _gold(
    groups: Sequence[ScoredGroup], questions: Mapping[str, Question], world: World
) -> dict[str, float]:
    """Mean gold of each question's candidates; empty where the truth is not known."""
    gold: dict[str, float] = {}
    for group in groups:
        question = questions[group.question_id]
        grades = [world.gold(question, c.text) for c in sound_candidates([group])]
        known = [grade for grade in grades if grade is not None]
        if known:
            gold[question.id] = fmean(known)
    return gold


def _deploy(staged: Mapping[str, Any], deployed: Mapping[str, Any]) -> DeployOutcome:
    seconds = [part["seconds"] for part in (staged, deployed) if part.get("seconds") is not None]
    return DeployOutcome(
        seconds=sum(seconds) if deployed.get("promoted") else None,
        verified=staged.get("verified"),
        max_abs_difference=staged.get("max_abs_difference"),
        requests=staged.get("requests", 0) + deployed.get("requests", 0),
        failed_requests=staged.get("failed_requests", 0) + deployed.get("failed_requests", 0),
    )
