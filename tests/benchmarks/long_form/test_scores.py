"""K-QA's two scores by hand, and what a judge's words mean."""

from __future__ import annotations

import pytest

from benchmarks.boards import mean, size
from benchmarks.long_form.scores import JudgedAnswer, board
from benchmarks.long_form.verdicts import question_for, read_verdict


def test_completeness_is_a_mean_of_shares_and_hallucination_a_mean_of_counts() -> None:
    found = board(
        [
            JudgedAnswer(0, "q1", (True, True, False, False), (False,) * 6),  # 2/4, 0 of 6
            JudgedAnswer(1, "q2", (True,), (True, True, False)),  # 1/1, 2 of 3
            JudgedAnswer(2, "q3", (True, None), (False, False)),  # not judged: in no score
        ]
    )
    assert found is not None
    assert mean(found.overall) == mean(found.sections["completeness"]) == pytest.approx(0.75)
    assert mean(found.sections["hallucination"]) == pytest.approx((0 + 2) / 2)
    assert mean(found.sections["hallucination_share"]) == pytest.approx((0 + 2 / 3) / 2)
    assert size(found.overall) == 2


def test_without_a_verdict_there_is_no_score() -> None:
    assert board([JudgedAnswer(0, "q1", (None,), (False,))]) is None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The dose agrees.\nVerdict: true", True),
        ("**Verdict:** False.", False),
        ("Verdict: true? On reflection the age differs.\nVerdict: false", False),
        ("The verdict is TRUE", True),
        ("Verdict: yes", True),
        ("It names neither. The answer is False.", False),
        ("True", True),
        ("It is true that the dose is the same, but I cannot decide.", None),
        ("", None),
        ("Verdict: unclear", None),
        ("Verdict: not true", None),
        ("The statement is not true.", None),
        ("The statement is true.", None),  # which is not what was asked
        ("I cannot tell whether it is true or false.", None),
        ("I should end with Verdict: true or Verdict: false.", None),
        ("Verdict: true/false", None),
        ("Verdict: true or false? I'd say:\n**True**", True),
        ("So the answer is: false", False),
    ],
)
def test_a_verdict_is_what_the_judge_ends_with(text: str, verdict: bool | None) -> None:
    assert read_verdict(text) is verdict


def test_the_judge_sees_question_answer_and_statement() -> None:
    asked = question_for("contradicts", question="Q?", answer="A.", statement="S.").last
    assert all(f"\n{text}\n" in asked for text in ("Q?", "A.", "S."))
    assert "contradicts the statement" in asked
