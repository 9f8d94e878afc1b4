"""Views: what is asked of a reward model about a ranked group.

The benchmark itself asks as the data has it. Controls ask the same candidates under another
question, under none, in the opposite order, or in no company. Pure; one group in, one question out,
with a bounded number of groups in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

from pydantic import ValidationError

from benchmarks.scored import ScoredGroup
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from reward_server.protocol import ScoreGroup

View = Literal[
    "as_asked", "shuffled_question", "empty_question", "swapped_order", "batch_composition"
]
VIEWS: tuple[View, ...] = get_args(View)

BLOCK = 256
"""Groups among which questions are exchanged, and so the groups in memory."""

SAMPLE = 64
"""Groups that are asked again alone."""

NO_OTHER = "no_other_question: all groups near it ask the same"


@dataclass(frozen=True, slots=True)
class Asked:
    """A group of the data and what is asked about it."""

    number: int
    """Place of the group in the data, counted from 0."""

    ranked: RankedGroup
    question: ScoreGroup | None
    problem: str = ""
    """``code: detail``, where nothing can be asked."""

    is_reversed: bool = False
    """Whether rewards come in the opposite order of the group's candidates."""

    def scored(
        self, rewards: tuple[float | None, ...], errors: tuple[str | None, ...]
    ) -> ScoredGroup:
        """The group with what the endpoint said."""
        step = -1 if self.is_reversed else 1
        return ScoredGroup.of(self.number, self.ranked, rewards[::step], errors[::step])

    def failed(self) -> ScoredGroup:
        """The group of which nothing can be asked."""
        count = len(self.ranked.candidates)
        return ScoredGroup.of(self.number, self.ranked, (None,) * count, (self.problem,) * count)


def ask(groups: Iterable[RankedGroup], view: View, *, total: int) -> Iterator[Asked]:
    """What a view asks, in the order of the data.

    Args:
        groups: the data.
        view: which questions.
        total: the number of groups, of which ``batch_composition`` takes ``SAMPLE`` evenly spaced.
    """
    numbered: Iterator[tuple[int, RankedGroup]] = enumerate(groups)
    if view == "shuffled_question":
        yield from _shuffled(numbered)
        return
    if view == "batch_composition":
        numbered = sampled(numbered, total)
    for number, group in numbered:
        if view == "empty_question":
            yield _asked(number, group, Conversation.ask(""))
        elif view == "swapped_order":
            yield _asked(number, group, group.conversation, is_reversed=True)
        else:
            yield _asked(number, group, group.conversation)


def sampled(
    numbered: Iterable[tuple[int, RankedGroup]], total: int
) -> Iterator[tuple[int, RankedGroup]]:
    """At most ``SAMPLE`` of the groups, evenly spaced."""
    wanted = {index * total // SAMPLE for index in range(SAMPLE)} if total > SAMPLE else None
    return ((n, group) for n, group in numbered if wanted is None or n in wanted)


def view_size(view: View, total: int) -> int:
    """How many groups a view asks about, of ``total``."""
    return min(total, SAMPLE) if view == "batch_composition" else total


def _shuffled(numbered: Iterable[tuple[int, RankedGroup]]) -> Iterator[Asked]:
    """Each group under the question of the group half a block further, or the next other one.

    No chance is involved: the same data gives the same questions.
    """
    source = iter(numbered)
    while block := list(islice(source, BLOCK)):
        half = len(block) // 2
        for place, (number, group) in enumerate(block):
            others = (block[(place + half + step) % len(block)][1] for step in range(len(block)))
            other = next((o for o in others if o.conversation != group.conversation), None)
            if other is None:
                yield Asked(number, group, None, NO_OTHER)
            else:
                yield _asked(number, group, other.conversation)


def _asked(
    number: int, group: RankedGroup, conversation: Conversation, *, is_reversed: bool = False
) -> Asked:
    candidates = group.candidates[::-1] if is_reversed else group.candidates
    try:
        question = ScoreGroup.of(f"{number}", conversation, candidates)
    except ValidationError as error:
        # No message of the error: it quotes the text, half of a surrogate pair included.
        field = ".".join(map(str, error.errors()[0]["loc"]))
        return Asked(number, group, None, f"invalid_text: {field}: is not valid Unicode text")
    return Asked(number, group, question, is_reversed=is_reversed)
