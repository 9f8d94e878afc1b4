"""Verifiable rules: a candidate's reward is the sum of the weights of the rules that hold.

A rule holds or it does not; where a text can be taken in two ways, it does not. How an answer is
read out of a text is the business of ``corpora.answers``; of options it knows the letters only.

Rules run in a thread. The pattern of a format rule need not be harmless: the matcher counts the
time of each match itself, and a candidate for which that takes longer than ``PATTERN_SECONDS`` has
an error in place of a reward.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, assert_never

import regex  # type: ignore[import-untyped]  # it brings no types

from corpora.answers.choices import extract_choice
from corpora.answers.values import number_of, words_of
from reward_server.errors import DeadlineExceeded, ServerStartError
from reward_server.fingerprint import fingerprint
from reward_server.protocol import (
    CandidateResult,
    GroupResult,
    Identity,
    ItemError,
    ModelInfo,
    ScoreGroup,
    Usage,
)
from reward_server.scorer import Call, Scored
from reward_server.scorers.open import OpenScorer
from reward_server.specs import AnswerKeyRule, FormatRule, LengthRule, Rule, RulesSpec

T = TypeVar("T")

PATTERN_SECONDS = 1.0
"""Longest match of a pattern with one candidate."""

Holds = Callable[[str], bool]
"""Whether a rule holds for a candidate."""


class RulesScorer(OpenScorer):
    """Checks candidates against rules.

    Raises:
        ServerStartError: naming the rule that cannot be used, and the fix.
    """

    def __init__(self, name: str, spec: RulesSpec) -> None:
        if not math.isfinite(sum(abs(rule.weight) for rule in spec.rules)):
            raise ServerStartError("rules: the sum of their weights is not finite; lower them")
        super().__init__(describe(name, spec))
        self._rules = compile_rules(spec.rules)

    async def score(self, groups: Sequence[ScoreGroup], call: Call) -> Scored:
        """As :meth:`Scorer.score`.

        Raises:
            Draining: if no requests are taken.
            DeadlineExceeded: if the deadline passes before the last candidate is begun.
        """
        self.check_open()
        cutoff = Cutoff(call.deadline)
        try:
            results = await asyncio.to_thread(self._score, groups, cutoff)
        finally:
            cutoff.has_left = True
        return Scored(groups=results, usage=Usage(tokens=0, computed_tokens=0))

    def _score(self, groups: Sequence[ScoreGroup], cutoff: Cutoff) -> tuple[GroupResult, ...]:
        return tuple(
            GroupResult(id=group.id, results=check(group, self._rules, cutoff)) for group in groups
        )


@dataclass(slots=True)
class Cutoff:
    """When a thread need not begin another candidate."""

    deadline: float = math.inf
    """A time of ``time.monotonic``."""

    has_left: bool = False
    """Whether the caller waits no longer."""

    @property
    def is_reached(self) -> bool:
        return self.has_left or time.monotonic() >= self.deadline


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule that is ready to be checked."""

    name: str
    """What the rule is called among the parts of a reward."""

    weight: float
    bind: Callable[[str | None], Holds]
    """The rule of a group, given the group's reference; raises ``NoReference``."""


class NoReference(ValueError):
    """The group lacks what a rule checks against. The message is one line."""


def describe(name: str, spec: RulesSpec) -> ModelInfo:
    """The rules as a reward model."""
    identity = Identity(
        kind="rules",
        parameters={
            f"rules[{index}].{field}": value
            for index, rule in enumerate(spec.rules)
            for field, value in rule.model_dump(exclude_none=True).items()
        },
    )
    return ModelInfo(
        name=name, fingerprint=fingerprint(identity), identity=identity, is_deterministic=True
    )


def compile_rules(rules: Sequence[Rule]) -> tuple[CompiledRule, ...]:
    """Makes rules ready; of several of a kind, the second is called ``format_2`` and so on.

    Raises:
        ServerStartError: naming the rule that cannot be used, and the fix.
    """
    seen: Counter[str] = Counter()
    compiled = []
    for index, rule in enumerate(rules):
        seen[rule.rule] += 1
        count = seen[rule.rule]
        name = rule.rule if count == 1 else f"{rule.rule}_{count}"
        bind = _bind(rule, where=f"rules[{index}]")
        compiled.append(CompiledRule(name=name, weight=rule.weight, bind=bind))
    return tuple(compiled)


def check(
    group: ScoreGroup, rules: Sequence[CompiledRule], cutoff: Cutoff | None = None
) -> tuple[CandidateResult, ...]:
    """Results of one group.

    Args:
        group: the candidates, and the reference that rules may need.
        rules: what to check.
        cutoff: when no further candidate is begun.

    Raises:
        DeadlineExceeded: if it is reached before the last candidate.
    """
    try:
        bound = [(rule, rule.bind(group.reference)) for rule in rules]
    except NoReference as missing:
        error = ItemError(code="no_reference", detail=str(missing))
        return (_failed(error),) * len(group.candidates)
    results = []
    for candidate in group.candidates:
        # Before each one, since every pattern may take its whole time for every candidate.
        if cutoff is not None and cutoff.is_reached:
            raise DeadlineExceeded("deadline_ms: it passed before every candidate was checked")
        results.append(_check(candidate, bound))
    return tuple(results)


def _check(candidate: str, rules: Sequence[tuple[CompiledRule, Holds]]) -> CandidateResult:
    parts: dict[str, float] = {}
    for rule, holds in rules:
        try:
            parts[rule.name] = float(holds(candidate))
        except TimeoutError:
            detail = (
                f"{rule.name}: its pattern takes more than {PATTERN_SECONDS:g} s for this "
                "candidate; write it without repeats inside of repeats"
            )
            return _failed(ItemError(code="rule_failed", detail=detail))
    reward = math.fsum(rule.weight for rule, _ in rules if parts[rule.name])
    return CandidateResult(reward=reward, tokens=0, parts=parts)


def _failed(error: ItemError) -> CandidateResult:
    return CandidateResult(reward=None, tokens=0, error=error)


def _bind(rule: Rule, *, where: str) -> Callable[[str | None], Holds]:
    match rule:
        case AnswerKeyRule():
            return lambda reference: answer_key(rule, reference)
        case FormatRule():
            pattern = _pattern(rule.pattern, where)
            return lambda _: pattern
        case LengthRule():
            length = _length(rule, where)
            return lambda _: length
        case _:
            assert_never(rule)


def _pattern(source: str, where: str) -> Holds:
    try:
        pattern: Any = regex.compile(source)
    except regex.error as error:
        raise ServerStartError(
            f"{where}.pattern: {source!r} is no regular expression: {error}; correct it"
        ) from None
    return lambda candidate: bool(
        pattern.search(candidate, timeout=PATTERN_SECONDS, concurrent=True)
    )


def _length(rule: LengthRule, where: str) -> Holds:
    most = math.inf if rule.max_words is None else rule.max_words
    if rule.min_words > most:
        raise ServerStartError(
            f"{where}.min_words: {rule.min_words} is above max_words {most}; lower it"
        )
    return lambda candidate: rule.min_words <= len(candidate.split()) <= most


def answer_key(rule: AnswerKeyRule, reference: str | None) -> Holds:
    """Whether a candidate names the answer that ``reference`` names.

    Raises:
        NoReference: if there is none, or it is not of the rule's form.
    """
    if reference is None:
        raise NoReference("the answer key needs the group's reference")
    match rule.form:
        case "choice":
            choice = _known(extract_choice(reference), "names no option")
            return lambda candidate: extract_choice(candidate) == choice
        case "text":
            words = _known(words_of(reference), "holds no word")
            return lambda candidate: f" {words} " in f" {words_of(candidate) or ''} "
        case "number":
            number = _known(number_of(reference), "holds no number")
            return lambda candidate: _is_near(number_of(candidate), number, rule.tolerance)


def _known(key: T | None, problem: str) -> T:
    if key is None:
        raise NoReference(f"the group's reference {problem}")
    return key


def _is_near(value: float | None, reference: float, tolerance: float) -> bool:
    return value is not None and abs(value - reference) <= tolerance * abs(reference)
