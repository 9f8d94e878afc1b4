"""``medpref bench compare A B``: two models on the same groups of one benchmark.

Groups are the same where conversation, candidates and ranks are, whatever their ids, which
published sets do not keep unique. Scores are of the groups that both models have rewards for, and
by the published rule for equal rewards, so they may differ from those of each evaluation alone. A
difference is B minus A. Comparing is pure; reading and writing is at the end.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import boards
from benchmarks.boards import Leaf, Tree
from benchmarks.errors import BenchmarkError
from benchmarks.results import Interval95, Results, read_results
from benchmarks.rewardbench2 import JudgeMode
from benchmarks.scored import ScoredGroup
from benchmarks.stored_scores import read_scores
from benchmarks.suites import SUITES, Suite
from benchmarks.tables import OVERALL, Table, bracket, percent, to_markdown, to_rich
from foundation.errors import UserError
from foundation.journal import writing
from foundation.parsing import Parser
from foundation.words import decimal

JSON, MARKDOWN = "compare.json", "compare.md"
NO_GAIN = 1e-9
"""What sums of parts that cancel may leave."""

LEAST_WIDTH = 110
"""Columns that the table needs, also where there is no terminal."""

EXAMPLES = """  {prog} runs/eval-base runs/eval-r3
  {prog} runs/eval-base runs/eval-r3 --output comparison"""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation."""

    results: Results
    groups: tuple[ScoredGroup, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One score of both models, and how far they are apart. Scores are shares."""

    name: str
    n: int
    a: float
    b: float
    difference: float
    """B minus A."""

    ci95: Interval95
    """Of the difference, paired bootstrap."""

    p: float
    """That there is no difference: two-sided, by flipping signs group by group."""

    only_a_right: int
    """Groups of which A gets more right than B; of pairs, those that A alone gets right."""

    only_b_right: int
    mcnemar_p: float
    """Exact and two-sided: that either is as likely to be the one that is right."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the groups that both have rewards for."""

    benchmark: str
    a: str
    b: str
    common: int
    only_in_a: int
    """Groups that A has rewards for and B has not."""

    only_in_b: int
    overall: Change
    sections: tuple[Change, ...]
    subsets: tuple[Change, ...]

    @property
    def changes(self) -> Iterator[Change]:
        """All of them once: where the subsets are the sections, these."""
        yield self.overall
        yield from self.sections
        yield from (change for change in self.subsets if change not in self.sections)


def compare(a: Evaluated, b: Evaluated, suite: Suite, *, seed: int = 0) -> Comparison:
    """Compares two models by the benchmark's own rule.

    Args:
        a: the one before.
        b: the other one, of the same benchmark.
        suite: the benchmark.
        seed: of resampling and sign flips.

    Raises:
        BenchmarkError: if the benchmarks are not the same, or no group is common to both.
    """
    if a.results.benchmark != b.results.benchmark:
        raise BenchmarkError(
            f"A is of {a.results.benchmark}, B of {b.results.benchmark}; give two evaluations of"
            " the same benchmark"
        )
    pairs = pair_groups(a.groups, b.groups)
    if not pairs:
        raise BenchmarkError(
            "no group has rewards in both; give two evaluations of the same data, with digests"
        )
    before, after = (
        suite.score([pair[side] for pair in pairs], judge_mode=_judge_mode(of.results))
        for side, of in enumerate((a, b))
    )
    change = _Changes(seed)
    return Comparison(
        benchmark=a.results.benchmark,
        a=a.results.model,
        b=b.results.model,
        common=len(pairs),
        only_in_a=sum(group.is_scored for group in a.groups) - len(pairs),
        only_in_b=sum(group.is_scored for group in b.groups) - len(pairs),
        overall=change(OVERALL, before.overall, after.overall),
        sections=change.all(before.sections, after.sections),
        subsets=change.all(before.subsets, after.subsets),
    )


def pair_groups(
    a: Iterable[ScoredGroup], b: Iterable[ScoredGroup]
) -> list[tuple[ScoredGroup, ScoredGroup]]:
    """The groups that are scored in both, in the order of A and numbered anew.

    Names are those of A. A group that is there several times is paired as often as it is in both,
    in order; one without a digest is not paired.
    """
    waiting: dict[tuple[str, tuple[int, ...]], list[ScoredGroup]] = defaultdict(list)
    for group in b:
        if group.is_scored and group.digest:
            waiting[group.digest, group.ranks].append(group)
    pairs: list[tuple[ScoredGroup, ScoredGroup]] = []
    for group in a:
        partners = waiting.get((group.digest, group.ranks)) if group.is_scored else None
        if partners:
            first, second = replace(group, number=len(pairs)), partners.pop(0)
            named = replace(second, number=first.number, id=group.id, subset=group.subset)
            pairs.append((first, named))
    return pairs


def _judge_mode(results: Results) -> JudgeMode | None:
    """How a judge was asked, if one was."""
    mode: JudgeMode | None = results.settings.get("judge_mode")
    return mode


def mcnemar_p(first: int, second: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947): the binomial test on discordant counts."""
    discordant, fewer = first + second, min(first, second)
    tail = sum(math.comb(discordant, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**discordant))


class _Changes:
    """Makes changes from two trees."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, name: str, before: Tree, after: Tree) -> Change:
        gain = boards.difference(after, before)
        interval = boards.interval(gain, seed=self._seed)
        gains = _gains(gain)
        only_a = sum(value < -NO_GAIN for value in gains)
        only_b = sum(value > NO_GAIN for value in gains)
        return Change(
            name=name,
            n=boards.size(gain),
            a=boards.mean(before),
            b=boards.mean(after),
            difference=boards.mean(gain),
            ci95=(interval.low, interval.high),
            p=boards.sign_flip_p(gain, seed=self._seed),
            only_a_right=only_a,
            only_b_right=only_b,
            mcnemar_p=mcnemar_p(only_a, only_b),
        )

    def all(self, before: Mapping[str, Tree], after: Mapping[str, Tree]) -> tuple[Change, ...]:
        return tuple(self(name, tree, after[name]) for name, tree in before.items())


def _gains(tree: Tree) -> Iterable[float]:
    """What each group gained, over all parts of the score that it is in."""
    gains: dict[int, float] = defaultdict(float)
    for leaf in _leaves(tree):
        for number, value in zip(leaf.numbers, leaf.values, strict=True):
            gains[number] += value
    return gains.values()


def _leaves(tree: Tree) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
        return
    for child in tree.children.values():
        yield from _leaves(child)


def to_table(comparison: Comparison) -> Table:
    """For people."""
    notes = [
        f"A {comparison.a}, B {comparison.b}: {comparison.common:,} common groups;"
        f" {comparison.only_in_a:,} scored in A only, {comparison.only_in_b:,} in B only.",
        "p by flipping signs; McNemar's p is exact, over groups that one of them alone gets right."
        " Neither is corrected for the number of rows.",
    ]
    return Table(
        title=f"{comparison.benchmark}: B against A",
        columns=("", "A", "B", "B − A", "95 % interval", "p", "A only", "B only", "McNemar", "n"),
        rows=tuple(map(_row, comparison.changes)),
        notes=tuple(notes),
        strong=frozenset({0}),
    )


def _row(change: Change) -> tuple[str, ...]:
    return (
        change.name,
        percent(change.a),
        percent(change.b),
        signed(change.difference),
        bracket(change.ci95),
        p_value(change.p),
        f"{change.only_a_right:,}",
        f"{change.only_b_right:,}",
        p_value(change.mcnemar_p),
        f"{change.n:,}",
    )


def signed(share: float) -> str:
    """``+1.2``, ``−0.4`` or ``0.0`` per cent."""
    text = percent(share)
    return f"+{text}" if text.strip("0.") and share > 0 else text


def p_value(p: float) -> str:
    """``0.031``; ``< 0.001`` where there is no telling how small."""
    return "< 0.001" if p < 0.001 else decimal(p, 3)


def read_evaluated(folder: Path) -> Evaluated:
    """The results and scored groups in an evaluation's folder.

    Raises:
        UserError: naming the file, the line and what is wrong.
    """
    return Evaluated(read_results(folder), tuple(read_scores(folder)))


def main(arguments: Sequence[str] | None = None, *, prog: str = "medpref bench compare") -> int:
    """Prints the comparison, whose last line is one JSON document; returns 0.

    Raises:
        UserError: if the two cannot be compared; one line.
        JobError: if the files cannot be written.
    """
    parser = Parser(
        prog,
        "Compare two reward models that were evaluated on the same benchmark: differences with\n"
        "intervals and tests, over the groups that both have rewards for.",
        examples=EXAMPLES.format(prog=prog),
    )
    parser.add_argument("a", type=Path, metavar="A", help="output folder of an evaluation")
    parser.add_argument("b", type=Path, metavar="B", help="another one, of the same benchmark")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"also write {JSON} and {MARKDOWN} there"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resampling. Default: 0.")
    options = parser.parse_args(arguments)
    a, b = read_evaluated(options.a), read_evaluated(options.b)
    comparison = compare(a, b, find_suite(a.results.benchmark), seed=options.seed)
    write(comparison, options.output)
    return 0


def find_suite(name: str) -> Suite:
    """The benchmark of some results.

    Raises:
        UserError: if it is none whose rule is known.
    """
    if name not in SUITES:
        raise UserError(f"benchmark: {name!r} is not one of {', '.join(SUITES)}; evaluate again")
    return SUITES[name]


def write(comparison: Comparison, output: Path | None) -> None:
    """Prints the table and the document, and keeps both in a folder."""
    table, content = to_table(comparison), document(comparison)
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(to_rich(table))
    if output is not None:
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
            (output / MARKDOWN).write_text(to_markdown(table), encoding="utf-8")
            (output / JSON).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(content) + "\n")


def document(comparison: Comparison) -> dict[str, Any]:
    """``compare.json``."""
    return asdict(comparison)
