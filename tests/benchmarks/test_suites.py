import pytest

from benchmarks.boards import Board, Leaf, Node, Tree, mean
from benchmarks.errors import BenchmarkError
from benchmarks.suites import SUITES, Suite
from corpora.conversation import Conversation
from corpora.ranked import RankedGroup
from corpora.rankings.registry import FORMATS
from tests.benchmarks.groups import FAILED, scored

every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def smallest(suite: Suite) -> Board:
    """The board of one group of a subset, each candidate but the chosen ones worth nothing."""
    ranks = [1, 1, 1, 2, 2, 2] if suite.name == "rm-bench" else [1, 2]
    subset = next(iter(suite.sizes), "any")
    rewards = [float(rank == 1) for rank in ranks]
    groups = [
        scored(subset, rewards, ranks=ranks, number=5),
        scored(subset, FAILED, number=6),
    ]
    return suite.board(groups, ties=suite.ties)


def leaves(tree: Tree) -> list[Leaf]:
    if isinstance(tree, Node):
        return [leaf for child in tree.children.values() for leaf in leaves(child)]
    return [tree]


@every_suite
def test_every_rule_takes_its_own_subsets_and_keeps_the_places_of_groups(suite: Suite) -> None:
    scores = smallest(suite)

    assert mean(scores.overall) == 1
    trees = [scores.overall, *scores.sections.values(), *scores.subsets.values()]
    assert {leaf.numbers for tree in trees for leaf in leaves(tree)} == {(5,)}


@every_suite
def test_every_suite_has_a_source_and_data_or_is_for_any_data(suite: Suite) -> None:
    is_published = suite.name != "pairs"

    assert SUITES[suite.name] is suite
    assert bool(suite.sources and suite.hub and suite.split and suite.format) == is_published
    assert (suite.size is not None) == is_published
    assert suite.format is None or suite.format in FORMATS


def test_the_suites_have_the_published_sizes() -> None:
    assert {name: suite.size for name, suite in SUITES.items()} == {
        "rewardbench": 2985,
        "rewardbench2": 1865,
        "medical-rewardbench": 777,
        "rm-bench": 1327,
        "pairs": None,
    }


def test_data_of_another_benchmark_are_told_before_anybody_is_asked() -> None:
    def group(subset: str) -> RankedGroup:
        return RankedGroup.pair("x", Conversation.ask("Why?"), "a", "b", subset=subset)

    medical = SUITES["medical-rewardbench"]
    medical.check([group("easy"), group("Human")])
    with pytest.raises(BenchmarkError, match=r"Medical RewardBench.* has no 'mt-bench-easy'"):
        medical.check([group("easy"), group("mt-bench-easy")])
    SUITES["rewardbench"].check([group("anthropic_harmless")])  # no part of a score, and its own
    SUITES["pairs"].check([group("anything")])
