"""The reward benchmarks: where each one's data is, and by which published rule it is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from benchmarks import medical_rewardbench, preference_sets, rewardbench, rewardbench2, rm_bench
from benchmarks.boards import Board
from benchmarks.errors import NothingScored
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import ScoredGroup, Ties
from corpora.ranked import RankedGroup


class Rule(Protocol):
    """The scoring rule of a benchmark. Groups without all their rewards are left out."""

    def __call__(self, groups: Sequence[ScoredGroup], *, ties: Ties) -> Board:
        """All scores."""


class JudgeRule(Protocol):
    """The scoring rule of a benchmark for a generative judge, which may fail to answer."""

    def __call__(self, groups: Sequence[ScoredGroup], *, mode: JudgeMode) -> Board:
        """All scores."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A reward benchmark."""

    name: str
    """As on the command line."""

    title: str
    board: Rule
    ties: Ties
    """What equal rewards are worth by the published rule."""

    format: str | None
    """Layout of the data, as the readers of ranked groups call it; ``None`` if it may be any."""

    hub: str | None = None
    """Name of the data set on the Hugging Face hub."""

    split: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Groups of each subset in the whole benchmark; empty if it has no fixed size."""

    sources: tuple[str, ...] = ()
    """Where the rule is published."""

    has_own_ties: bool = False
    """Whether the rule itself says what equal rewards are worth, so that ``ties`` cannot."""

    judge_board: JudgeRule | None = None
    """The rule for a generative judge, where it is another one."""

    def score(
        self,
        groups: Sequence[ScoredGroup],
        *,
        ties: Ties | None = None,
        judge_mode: JudgeMode | None = None,
    ) -> Board:
        """All scores, by the rule for whoever gave the rewards.

        Args:
            groups: those without all their rewards are left out, or counted as a judge's rule says.
            ties: what equal rewards are worth; ``None`` for the published rule.
            judge_mode: how a generative judge was asked; ``None`` for a reward model.

        Raises:
            BenchmarkError: if the groups are not those of the benchmark, or none is scored.
        """
        if judge_mode is not None and self.judge_board is not None:
            return self.judge_board(groups, mode=judge_mode)
        return self.board(groups, ties=ties or self.ties)

    def check(self, groups: Iterable[RankedGroup]) -> None:
        """Scores some groups by way of trial, so that others' data are told before they are asked.

        Raises:
            BenchmarkError: if the groups are not those of the benchmark.
        """
        trial = [
            ScoredGroup.of(
                number,
                group,
                [float(rank == 1) for rank in group.ranks],
                [None] * len(group.ranks),
            )
            for number, group in enumerate(groups)
        ]
        with suppress(NothingScored):
            self.board(trial, ties=self.ties)

    @property
    def fair_ties(self) -> Ties:
        """What a rule that knows nothing of the candidates is given for equal ones."""
        return self.ties if self.has_own_ties else "half"

    @property
    def size(self) -> int | None:
        """Groups in the whole benchmark; none if it has no fixed size."""
        return sum(self.sizes.values()) or None


_SUITES = (
    Suite(
        name="rewardbench",
        title=rewardbench.NAME,
        board=rewardbench.board,
        ties="loss",
        format="reward-bench",
        hub="allenai/reward-bench",
        split="filtered",
        sizes=rewardbench.SIZES,
        sources=(
            "arXiv 2403.13787",
            "github.com/allenai/reward-bench rewardbench/constants.py",
            "github.com/allenai/reward-bench analysis/get_benchmark_results.py",
        ),
    ),
    Suite(
        name="rewardbench2",
        title=rewardbench2.NAME,
        board=rewardbench2.board,
        ties="loss",
        has_own_ties=True,
        judge_board=rewardbench2.judge_board,
        format="reward-bench-2",
        hub="allenai/reward-bench-2",
        split="test",
        sizes=rewardbench2.SIZES,
        sources=(
            "arXiv 2506.01937",
            "github.com/allenai/reward-bench scripts/run_v2.py",
            "github.com/allenai/reward-bench rewardbench/utils.py",
        ),
    ),
    Suite(
        name="medical-rewardbench",
        title=medical_rewardbench.NAME,
        board=medical_rewardbench.board,
        ties="half",
        format="ultramedical-preference",
        hub="TsinghuaC3I/UltraMedical-Preference",
        split="test",
        sizes=medical_rewardbench.SIZES,
        sources=("arXiv 2406.03949",),
    ),
    Suite(
        name="rm-bench",
        title=rm_bench.NAME,
        board=rm_bench.board,
        ties="loss",
        format="rm-bench",
        hub="THU-KEG/RM-Bench",
        split="train",
        sizes=rm_bench.SIZES,
        sources=("arXiv 2410.16184", "github.com/THU-KEG/RM-Bench scripts/utils.py"),
    ),
    Suite(
        name="pairs",
        title="Preference pairs",
        board=preference_sets.board,
        ties="loss",
        format=None,
    ),
)

SUITES: Mapping[str, Suite] = MappingProxyType({suite.name: suite for suite in _SUITES})
"""All reward benchmarks by name."""
