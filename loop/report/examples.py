"""Example groups: what the policy wrote, what the reward model thought of it. Pure.

Chosen by rule, so a report cannot be flattered: of a round's groups that gave a pair, the one with
the widest margin and the one in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from corpora.conversation import Message
from corpora.preference import Pair
from loop.groups import ScoredCandidate, ScoredGroup

MOST_ANSWERS = 16
"""Of a larger group only the pairs and the best of the others are shown."""

Part = Literal["chosen", "rejected", "truncated", "duplicate", "not used"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A candidate and the part it had in its group's pairs."""

    text: str
    reward: float
    length_tokens: int
    finish_reason: str
    part: Part


@dataclass(frozen=True, slots=True)
class Example:
    """A group, its candidates from the best to the worst."""

    kind: str
    question_id: str
    messages: tuple[Message, ...]
    policy_version: str
    margin: float
    answers: tuple[Answer, ...]
    left_out: int
    """Candidates without a pair that are not shown."""


def pick_examples(groups: Sequence[ScoredGroup], pairs: Sequence[Pair]) -> list[Example]:
    """The group with the widest margin and a median one; fewer where there are fewer pairs."""
    by_id = {group.question_id: group for group in groups}
    by_question: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_question.setdefault(pair.question_id, []).append(pair)
    if not by_question:
        return []
    ranked = sorted(by_question, key=lambda question: (_margin(by_question[question]), question))
    picked = {ranked[-1]: "widest margin"}
    picked.setdefault(ranked[(len(ranked) - 1) // 2], "median margin")
    return [_example(by_id[q], by_question[q], kind=kind) for q, kind in picked.items()]


def shorten(text: str, *, most: int) -> str:
    """The text, or its beginning with a note on how much more there is."""
    rest = len(text) - most
    return text if rest <= 0 else f"{text[:most].rstrip()} … ({rest:,} more characters)"


def _example(group: ScoredGroup, pairs: Sequence[Pair], *, kind: str) -> Example:
    ranked = sorted(group.candidates, key=_reward, reverse=True)
    answers = _cast(ranked, pairs)
    shown = _fit(answers)
    return Example(
        kind=kind,
        question_id=group.question_id,
        messages=pairs[0].conversation.messages,
        policy_version=group.policy_version,
        margin=_margin(pairs),
        answers=shown,
        left_out=len(answers) - len(shown),
    )


def _cast(ranked: Sequence[ScoredCandidate], pairs: Sequence[Pair]) -> list[Answer]:
    """Gives every candidate its part; of identical ones the first has it."""
    parts: Mapping[str, Part] = {
        **{pair.rejected.strip(): "rejected" for pair in pairs},
        **{pair.chosen.strip(): "chosen" for pair in pairs},
    }
    answers: list[Answer] = []
    seen: set[str] = set()
    for candidate in ranked:
        text = candidate.text.strip()
        part = parts.get(text, "not used")
        if candidate.is_truncated:
            part = "truncated"
        elif text in seen:
            part = "duplicate"
        else:
            seen.add(text)
        answers.append(
            Answer(text, _reward(candidate), candidate.length_tokens, candidate.finish_reason, part)
        )
    return answers


def _fit(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Every chosen and rejected answer, and the best of the others as far as there is room."""
    paired = [answer.part in ("chosen", "rejected") for answer in answers]
    room = max(MOST_ANSWERS - sum(paired), 0)
    others = [place for place, is_paired in enumerate(paired) if not is_paired]
    hidden = set(others[room:])
    return tuple(answer for place, answer in enumerate(answers) if place not in hidden)


def _margin(pairs: Sequence[Pair]) -> float:
    return max(pair.margin or 0.0 for pair in pairs)


def _reward(candidate: ScoredCandidate) -> float:
    assert candidate.reward is not None, "a group that gave a pair has a reward for every candidate"
    return candidate.reward
