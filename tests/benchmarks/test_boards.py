import math
from itertools import product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.boards import Leaf, Node, Tree, difference, interval, mean, sign_flip_p, size
from foundation.statistics import RESAMPLES

scores = st.floats(-1, 1)
leaves = st.lists(scores, min_size=1, max_size=6).map(lambda values: Leaf(tuple(values)))
names = st.sampled_from("abc")


def nodes(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    weights = st.dictionaries(names, st.floats(0.5, 8))
    return st.builds(Node, st.dictionaries(names, children, min_size=1), weights)


trees: st.SearchStrategy[Tree] = st.recursive(leaves, nodes, max_leaves=6)


def wins(won: int, of: int) -> Leaf:
    return Leaf((1.0,) * won + (0.0,) * (of - won), tuple(range(of)))


def values(tree: Tree) -> list[float]:
    if isinstance(tree, Leaf):
        return list(tree.values)
    return [value for child in tree.children.values() for value in values(child)]


def test_a_node_is_the_weighted_mean_of_its_children() -> None:
    section = Node({"code": wins(9, 10), "prm": wins(1, 2)}, {"prm": 3})

    assert mean(section) == pytest.approx((1 * 0.9 + 3 * 0.5) / 4)
    assert mean(Node({"section": section, "other": wins(0, 4)})) == pytest.approx(0.3)
    assert size(section) == 12


@given(trees)
def test_a_score_lies_among_its_values(tree: Tree) -> None:
    assert min(values(tree)) - 1e-9 <= mean(tree) <= max(values(tree)) + 1e-9


@given(trees)
def test_no_score_differs_from_itself(tree: Tree) -> None:
    nothing = difference(tree, tree)

    assert mean(nothing) == 0
    assert sign_flip_p(nothing, seed=0) == 1
    assert interval(nothing, seed=0) == (0, 0)


@given(trees)
def test_an_interval_holds_scores_that_are_possible_and_most_often_the_score(tree: Tree) -> None:
    low, high = interval(tree, seed=0)

    assert min(values(tree)) - 1e-9 <= low <= high <= max(values(tree)) + 1e-9


def test_the_interval_of_wins_is_the_normal_one_where_there_are_many() -> None:
    error = math.sqrt(0.8 * 0.2 / 777)

    low, high = interval(wins(622, 777), seed=3)

    assert low == pytest.approx(622 / 777 - 1.96 * error, abs=0.003)
    assert high == pytest.approx(622 / 777 + 1.96 * error, abs=0.003)


def test_an_interval_is_that_of_drawing_the_groups_of_each_leaf_one_by_one() -> None:
    generator = np.random.default_rng(1)
    subsets = {
        "easy": generator.random(40),
        "hard": generator.choice([0.0, 0.5, 1.0], size=25),
    }
    weights = {"hard": 2.0}
    drawn = [
        (
            generator.choice(subsets["easy"], 40).mean()
            + 2 * generator.choice(subsets["hard"], 25).mean()
        )
        / 3
        for _ in range(20_000)
    ]
    tree = Node({name: Leaf(tuple(given)) for name, given in subsets.items()}, weights)

    assert interval(tree, seed=2) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006
    )


def test_the_same_seed_gives_the_same_interval() -> None:
    tree = Node({"a": wins(7, 9), "b": Leaf(tuple(math.sqrt(n) for n in range(20)))})

    assert interval(tree, seed=5) == interval(tree, seed=5)
    assert interval(tree, seed=5) != interval(tree, seed=6)


def test_a_lower_confidence_is_a_narrower_interval() -> None:
    low, high = interval(wins(60, 100), seed=0)
    closer_low, closer_high = interval(wins(60, 100), seed=0, confidence=0.5)

    assert low < closer_low < 0.6 < closer_high < high


def test_groups_that_both_models_get_right_make_a_difference_no_wider() -> None:
    after = Leaf((1.0,) * 90 + (1.0,) * 10, tuple(range(100)))
    before = Leaf((1.0,) * 90 + (0.0,) * 10, tuple(range(100)))

    low, high = interval(difference(after, before), seed=0)

    assert mean(difference(after, before)) == pytest.approx(0.1)
    assert 0.03 < low < 0.1 < high < 0.17


@given(st.lists(st.tuples(scores, scores), min_size=1), st.lists(st.tuples(scores, scores)))
def test_the_score_of_a_difference_is_the_difference_of_the_scores(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    def tree(model: int) -> Tree:
        parts = {
            name: Leaf(tuple(both[model] for both in part))
            for name, part in {"first": first, "second": second}.items()
            if part
        }
        return Node(parts, {"second": 3})

    gain = difference(tree(0), tree(1))

    assert mean(gain) == pytest.approx(mean(tree(0)) - mean(tree(1)), abs=1e-9)
    assert mean(difference(tree(1), tree(0))) == pytest.approx(-mean(gain), abs=1e-9)


@pytest.mark.parametrize(
    ("after", "before", "problem"),
    [
        pytest.param(Leaf((1.0,), (0,)), Leaf((1.0,), (1,)), "same groups", id="other groups"),
        pytest.param(Leaf((1.0,)), Leaf((1.0, 0.0)), "same groups", id="more groups"),
        pytest.param(
            Node({"a": wins(1, 1)}), Node({"b": wins(1, 1)}), "same parts", id="other parts"
        ),
        pytest.param(
            Node({"a": wins(1, 1)}), Node({"a": wins(1, 1)}, {"a": 2}), "same parts", id="weights"
        ),
        pytest.param(Node({"a": wins(1, 1)}), wins(1, 1), "same form", id="leaf and node"),
    ],
)
def test_scores_of_different_things_are_not_subtracted(
    after: Tree, before: Tree, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        difference(after, before)


def test_the_p_value_is_that_of_all_sign_flips() -> None:
    math_gains, code_gains = (1.0, 1.0, 0.5, -1.0), (1.0, 0.5, 0.0)
    tree = Node({"math": Leaf(math_gains), "code": Leaf(code_gains)}, {"math": 2})

    def score(signs: tuple[int, ...]) -> float:
        flipped = [s * g for s, g in zip(signs, math_gains + code_gains, strict=True)]
        return (2 * fmean(flipped[:4]) + fmean(flipped[4:])) / 3

    flips = [score(signs) for signs in product([1, -1], repeat=7)]
    exact = fmean(abs(flip) >= abs(mean(tree)) - 1e-12 for flip in flips)

    assert 0.05 < exact < 0.95
    assert sign_flip_p(tree, seed=0) == pytest.approx(exact, abs=0.015)


def test_a_p_value_is_never_below_what_its_draws_can_tell() -> None:
    assert sign_flip_p(wins(100, 100), seed=0) == 1 / (RESAMPLES + 1)


def test_the_p_value_of_few_wins_is_the_sign_test() -> None:
    nine_of_ten = Leaf((1.0,) * 9 + (-1.0,))

    assert sign_flip_p(nine_of_ten, seed=0) == pytest.approx(2 * (1 + 10) / 2**10, abs=0.005)
