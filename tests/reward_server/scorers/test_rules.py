"""What holds and what does not, and rules as a scorer."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from reward_server.errors import DeadlineExceeded, Draining, ServerStartError
from reward_server.protocol import CandidateResult, ChatMessage, ScoreGroup
from reward_server.scorer import Call, Scorer
from reward_server.scorers import rules as rules_module
from reward_server.scorers.rules import CompiledRule, Cutoff, RulesScorer, check
from reward_server.specs import RulesSpec

pytestmark = pytest.mark.anyio

KEY = {"rule": "answer_key"}
LENGTH = {"rule": "length", "min_words": 2}
LARGEST = sys.float_info.max


def make_scorer(*rules: dict[str, Any], start: bool = True) -> RulesScorer:
    spec = RulesSpec.model_validate({"kind": "rules", "rules": rules})
    scorer = RulesScorer("checks", spec)
    if start:
        scorer.start()
    return scorer


def group(*candidates: str, reference: str | None = None) -> ScoreGroup:
    question = ChatMessage(role="user", content="Which one?")
    return ScoreGroup(id="q7", messages=(question,), candidates=candidates, reference=reference)


async def results(scorer: Scorer, *groups: ScoreGroup) -> list[CandidateResult]:
    scored = await scorer.score(groups, Call())
    return [result for answer in scored.groups for result in answer.results]


async def holds(rule: dict[str, Any], candidate: str, reference: str | None = None) -> bool:
    (result,) = await results(make_scorer(rule), group(candidate, reference=reference))
    assert result.reward in (0.0, 1.0)
    return result.reward == 1.0


@pytest.mark.parametrize(
    ("rule", "candidate", "reference", "expected"),
    [
        pytest.param(KEY, "The answer is (B).", "B", True, id="choice"),
        pytest.param(KEY, "The answer is (B).", "b) Aspirin", True, id="choice-with-text"),
        pytest.param(KEY, "The answer is (B).", "C", False, id="other-choice"),
        pytest.param(KEY, "The answer is A or B.", "B", False, id="unclear-choice"),
        pytest.param(
            {**KEY, "form": "text"}, "It is Crohn’s disease.", "Crohn's Disease", True, id="text"
        ),
        pytest.param({**KEY, "form": "text"}, "antibiotics", "biotic", False, id="part-of-word"),
        pytest.param({**KEY, "form": "text"}, "0.5 mg", "5 mg", False, id="part-of-number"),
        pytest.param({**KEY, "form": "text"}, "", "none", False, id="no-text"),
        pytest.param({**KEY, "form": "number"}, "So 1,500 mg", "1.5e3", True, id="number"),
        pytest.param({**KEY, "form": "number"}, "5%", "0.05", True, id="percentage"),
        pytest.param({**KEY, "form": "number"}, "5%", "5", False, id="percentage-is-hundredths"),
        pytest.param({**KEY, "form": "number"}, "no idea", "5", False, id="no-number"),
        pytest.param(
            {**KEY, "form": "number", "tolerance": 0.1}, "109", "100", True, id="tolerated"
        ),
        pytest.param(
            {**KEY, "form": "number", "tolerance": 0.1}, "111", "100", False, id="too-far"
        ),
        pytest.param({**KEY, "form": "number"}, "0.000001", "0", False, id="zero-is-exact"),
        pytest.param({"rule": "format", "pattern": "^So"}, "So be it", None, True, id="format"),
        pytest.param({"rule": "format", "pattern": "^So"}, "Is it so", None, False, id="no-format"),
        pytest.param(LENGTH, "two words", None, True, id="length"),
        pytest.param(LENGTH, "one", None, False, id="too-short"),
        pytest.param(LENGTH | {"max_words": 3}, "one two three four", None, False, id="too-long"),
    ],
)
async def test_a_rule_holds_or_not(
    rule: dict[str, Any], candidate: str, reference: str | None, expected: bool
) -> None:
    assert await holds(rule, candidate, reference) is expected


async def test_a_reward_is_the_sum_of_the_weights_that_hold() -> None:
    scorer = make_scorer(
        {**KEY, "weight": 2.0},
        {"rule": "format", "pattern": "answer", "weight": 0.5},
        {"rule": "format", "pattern": "sorry", "weight": -1.0},
    )
    scored = await scorer.score(
        [group("The answer is B.", "sorry", reference="B"), group("C", reference="C")], Call()
    )
    assert [[r.reward for r in answer.results] for answer in scored.groups] == [[2.5, -1.0], [2.0]]
    assert [answer.id for answer in scored.groups] == ["q7", "q7"]
    assert scored.groups[0].results[0].parts == {
        "answer_key": 1.0,
        "format": 1.0,
        "format_2": 0.0,
    }
    assert scored.groups[0].results[0].tokens == scored.usage.tokens == 0
    assert scored.engine is None


@pytest.mark.parametrize(
    ("form", "reference", "detail"),
    [
        ("choice", None, "the answer key needs the group's reference"),
        ("choice", "aspirin", "the group's reference names no option"),
        ("text", "…", "the group's reference holds no word"),
        ("number", "many", "the group's reference holds no number"),
    ],
)
async def test_a_group_without_a_usable_reference_has_errors_and_no_numbers(
    form: str, reference: str | None, detail: str
) -> None:
    scorer = make_scorer({**KEY, "form": form}, LENGTH)
    lacking, found = group("B", "C", reference=reference), group("B x", reference="B) 1")
    first, second, third = await results(scorer, lacking, found)
    for result in (first, second):
        assert result.reward is None
        assert result.error is not None
        assert (result.error.code, result.error.detail) == ("no_reference", detail)
    assert third.error is None


async def test_rules_without_a_key_need_no_reference() -> None:
    (result,) = await results(make_scorer(LENGTH), group("two words"))
    assert result.reward == 1.0


async def test_a_pattern_that_runs_away_is_an_error_in_its_candidate_s_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules_module, "PATTERN_SECONDS", 0.05)
    scorer = make_scorer(
        {"rule": "format", "pattern": "a"}, {"rule": "format", "pattern": "^(?:a|aa)+$"}
    )
    first, second, third = await results(scorer, group("aaa", "a" * 60 + "b", "b"))
    assert (first.reward, third.reward) == (2.0, 0.0)
    assert (second.reward, second.parts) == (None, None)
    assert second.error is not None
    assert second.error.code == "rule_failed"
    assert second.error.detail == (
        "format_2: its pattern takes more than 0.05 s for this candidate; write it without "
        "repeats inside of repeats"
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rule": "format", "pattern": "("}, r"^rules\[1\]\.pattern: '\(' is no regular exp"),
        (LENGTH | {"max_words": 1}, r"^rules\[1\]\.min_words: 2 is above max_words 1; lower it$"),
        (LENGTH | {"weight": LARGEST}, "^rules: the sum of their weights is not finite"),
    ],
    ids=["pattern", "length", "weights"],
)
def test_a_rule_that_cannot_be_used_stops_the_start(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerStartError, match=message) as refused:
        make_scorer({**KEY, "weight": LARGEST}, rule)
    assert "\n" not in str(refused.value)


def test_the_fingerprint_covers_every_field_of_every_rule() -> None:
    variants = [
        make_scorer(KEY, LENGTH),
        make_scorer(LENGTH, KEY),
        make_scorer({**KEY, "weight": 2.0}, LENGTH),
        make_scorer({**KEY, "form": "number"}, LENGTH),
        make_scorer({**KEY, "tolerance": 0.1}, LENGTH),
        make_scorer(KEY, LENGTH | {"max_words": 9}),
        make_scorer(KEY, {"rule": "format", "pattern": "a"}),
        make_scorer(KEY, {"rule": "format", "pattern": "b"}),
        make_scorer(KEY),
    ]
    assert len({scorer.info.fingerprint for scorer in variants}) == len(variants)
    assert make_scorer(KEY, LENGTH).info == variants[0].info


def test_rules_are_told_as_they_are() -> None:
    info = make_scorer(KEY).info
    assert (info.name, info.identity.kind, info.is_deterministic) == ("checks", "rules", True)
    assert info.identity.parameters == {
        "rules[0].rule": "answer_key",
        "rules[0].weight": 1.0,
        "rules[0].form": "choice",
        "rules[0].tolerance": 1e-6,
    }
    assert (info.device, info.max_length, info.identity.weights) == (None, None, None)


async def test_requests_are_taken_between_start_and_close() -> None:
    scorer = make_scorer(LENGTH, start=False)
    readiness = [scorer.is_ready]
    with pytest.raises(Draining):
        await results(scorer, group("two words"))
    scorer.start()
    readiness.append(scorer.is_ready)
    await scorer.aclose()
    readiness.append(scorer.is_ready)
    with pytest.raises(Draining):
        await results(scorer, group("two words"))
    assert readiness == [False, True, False]


async def test_nothing_is_begun_after_the_deadline() -> None:
    with pytest.raises(DeadlineExceeded):
        await make_scorer(LENGTH).score([group("two words")], Call(deadline=0.0))


def test_a_deadline_that_passes_within_a_group_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def holds(candidate: str) -> bool:
        checked.append(candidate)
        return True

    rule = CompiledRule(name="format", weight=1.0, bind=lambda reference: holds)
    clock = SimpleNamespace(monotonic=lambda: float(len(checked)))
    monkeypatch.setattr(rules_module, "time", clock)
    with pytest.raises(DeadlineExceeded, match="before every candidate was checked"):
        check(group("a", "b", "c"), [rule], Cutoff(deadline=2.0))
    assert checked == ["a", "b"]


def test_no_candidate_is_begun_for_a_caller_that_has_left() -> None:
    checked: list[str] = []
    cutoff = Cutoff()

    def holds(candidate: str) -> bool:
        checked.append(candidate)
        cutoff.has_left = True
        return True

    rule = CompiledRule(name="format", weight=1.0, bind=lambda reference: holds)
    with pytest.raises(DeadlineExceeded):
        check(group("a", "b"), [rule], cutoff)
    assert checked == ["a"]
