"""JudgeBench's published scores: pairs with what a reward model said of them, in both orders. Pure.

    {"pair_id": "5f0c", "question": …, "response_A": …, "response_B": …, "label": "B>A",
     "judgments": [{"judgment": {"scores": [1.5, 2.0]}, "decision": "B>A"},
                   {"judgment": {"scores": [2.0, 1.5]}, "decision": "A>B"}]}

The second judgment, where there is one, has the responses exchanged. A response's reward is the
mean of what both gave it. Layout of ``outputs/*judge_name=reward_model*`` in
github.com/ScalerLab/JudgeBench; judges in words leave no scores, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from benchmarks.errors import ScoresError
from benchmarks.scored import ScoredGroup, stored_reward
from corpora.rankings import judge_bench
from corpora.records import Record

JUDGMENTS = "judgments"


def is_judged(fields: Mapping[str, object]) -> bool:
    """Whether a line is of this layout."""
    return JUDGMENTS in fields and "label" in fields


def judged(record: Record, *, number: int) -> ScoredGroup:
    """The scored group of a line.

    Raises:
        ScoresError: if it has no scores where they belong.
        CorpusError: if the pair itself does not fit.
    """
    [pair] = judge_bench.parse(record, "")
    given = record.fields[JUDGMENTS]
    if not isinstance(given, list) or len(given) not in (1, 2):
        raise ScoresError(
            f"{record.where}: {JUDGMENTS}: expected one, or two in both orders, got {given!r:.60}"
        )
    orders = [_scores(judgment, record.where, place) for place, judgment in enumerate(given)]
    along = [scores[::-1] if place else scores for place, scores in enumerate(orders)]
    rewards = tuple(_mean(of_one) for of_one in zip(*along, strict=True))
    errors = tuple(
        None if reward is not None else f"missing_reward: {record.where}: has no finite score"
        for reward in rewards
    )
    return ScoredGroup.of(number, pair, rewards, errors)


def _scores(judgment: object, where: str, place: int) -> tuple[float | None, float | None]:
    """The two scores of one order; none where the judgment failed, which is written as null."""
    if judgment is None:
        return None, None
    inner = judgment.get("judgment") if isinstance(judgment, Mapping) else None
    scores = inner.get("scores") if isinstance(inner, Mapping) else None
    field = f"{where}: {JUDGMENTS}[{place}].judgment.scores"
    if not isinstance(scores, list) or len(scores) != 2:
        raise ScoresError(
            f"{field}: expected two numbers, got {scores!r:.60}; give the scores of a reward model"
        )
    first, second = (stored_reward(score, field) for score in scores)
    return first, second


def _mean(scores: tuple[float | None, ...]) -> float | None:
    known = [score for score in scores if score is not None]
    return fmean(known) if len(known) == len(scores) else None
