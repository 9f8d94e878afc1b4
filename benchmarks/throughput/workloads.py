"""Workloads: groups of known lengths, in text that no method has met before.

Pure. The lengths of a workload follow from the seed alone; its text from seed and repetition. So
every repetition asks for the same work, and no cache that one repetition filled can answer
another. Text is made of words, each with its number of tokens, so a length is hit exactly where
the tokenizer treats words one by one, and closely elsewhere; what counts is what was rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from random import Random

from benchmarks.throughput.options import WorkloadName
from corpora.conversation import Conversation
from reward_server.protocol import ScoreGroup

Ids = tuple[int, ...]

CANDIDATES: dict[WorkloadName, int] = {
    "best_of_4": 4,
    "best_of_8": 8,
    "best_of_16": 16,
    "single": 1,
}
"""Candidates behind one conversation."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and the number of its tokens behind a space."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a conversation, and of the shortest and the longest candidate."""

    conversation: int
    shortest: int
    longest: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A group as token ids: the conversation alone, and behind it each candidate."""

    prompt: Ids
    inputs: tuple[Ids, ...]

    @property
    def prefix(self) -> int:
        """Leading tokens that the prompt and all inputs share."""
        columns = zip(self.prompt, *self.inputs, strict=False)
        return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


Render = Callable[[ScoreGroup], Rendered]


@dataclass(frozen=True)
class Draw:
    """What every method scores in one repetition: groups as text, and the same as token ids."""

    groups: tuple[ScoreGroup, ...]
    rendered: tuple[Rendered, ...]

    @cached_property
    def inputs(self) -> list[Ids]:
        """All inputs, group by group."""
        return [ids for group in self.rendered for ids in group.inputs]

    @cached_property
    def tokens(self) -> int:
        """Tokens of all inputs: the conversation counts once for each candidate."""
        return sum(map(len, self.inputs))

    @cached_property
    def unique_tokens(self) -> int:
        """Tokens of all inputs, the shared prefix of a group counted once."""
        return sum(
            group.prefix + sum(len(ids) - group.prefix for ids in group.inputs)
            for group in self.rendered
        )

    def first(self, groups: int) -> Draw:
        """The first ``groups`` groups."""
        return Draw(self.groups[:groups], self.rendered[:groups])


@dataclass(frozen=True, slots=True)
class Workload:
    """So many groups of so many candidates."""

    name: WorkloadName
    groups: int
    lengths: Lengths
    seed: int

    @property
    def candidates(self) -> int:
        return CANDIDATES[self.name]

    def draw(self, words: Sequence[Word], render: Render, *, repetition: str) -> Draw:
        """The text of one repetition; equal names give equal text."""
        sizes = Random(f"{self.seed}/{self.name}/lengths")
        rng = Random(f"{self.seed}/{self.name}/text/{repetition}")
        groups = tuple(
            self._group(f"{repetition}-{index}", words, sizes, rng) for index in range(self.groups)
        )
        return Draw(groups, tuple(map(render, groups)))

    def _group(self, name: str, words: Sequence[Word], sizes: Random, rng: Random) -> ScoreGroup:
        question = compose(words, self.lengths.conversation, rng)
        candidates = [
            compose(words, sizes.randint(self.lengths.shortest, self.lengths.longest), rng)
            for _ in range(self.candidates)
        ]
        return ScoreGroup.of(name, Conversation.ask(question), candidates)


def make_workload(name: WorkloadName, *, groups: int, lengths: Lengths, seed: int) -> Workload:
    """A workload with as many inputs as ``groups`` groups of eight candidates, or a few more."""
    return Workload(name, -(-groups * CANDIDATES["best_of_8"] // CANDIDATES[name]), lengths, seed)


def compose(words: Sequence[Word], tokens: int, rng: Random) -> str:
    """A text of ``tokens`` tokens, drawn from ``words``, of which one at least has one token."""
    chosen: list[str] = []
    short = [word for word in words if word.tokens == 1]
    while tokens > 0:
        word = rng.choice(words)
        if word.tokens > tokens:
            word = rng.choice(short)
        chosen.append(word.text)
        tokens -= word.tokens
    return " ".join(chosen)
