"""The clinic world: disjoint purposes, the same world for the same seed, honest pairs."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from statistics import mean

import pytest

from corpora.clinic.__main__ import describe, longer_wins, mix_gold
from corpora.clinic.knowledge import Combo, Intent
from corpora.clinic.questions import PHRASINGS, combo_of
from corpora.clinic.world import FLIPPED_SHARE, HELDOUT_PAIRS, TRAIN_PAIRS, ClinicWorld
from corpora.errors import CorpusError
from corpora.preference import Pair
from corpora.world import Question, World

SEEDS = (0, 1, 17)
HELDOUT, ROUNDS = 300, 200


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed-{seed}")
def world(request: pytest.FixtureRequest) -> ClinicWorld:
    return ClinicWorld(seed=request.param)


@pytest.fixture(scope="module")
def questions(world: ClinicWorld) -> dict[str, set[str]]:
    """Ids by purpose."""
    pairs = world.reward_pairs({})
    return {
        "heldout": {q.id for q in world.heldout_questions(HELDOUT)},
        "rounds": {q.id for n in (1, 2, 3, 4) for q in world.round_questions(n, ROUNDS)},
        "reward_train": {pair.question_id for pair in pairs.train},
        "reward_heldout": {pair.question_id for pair in pairs.heldout},
    }


def _gap(world: ClinicWorld, pair: Pair) -> float:
    question = Question(pair.question_id, pair.conversation)
    return world.gold(question, pair.chosen) - world.gold(question, pair.rejected)


def test_it_is_a_world(world: ClinicWorld) -> None:
    face: World = world
    assert face.name == "clinic"
    assert face.reward_questions(10) == ()


def test_no_question_serves_two_purposes(questions: dict[str, set[str]]) -> None:
    for one, other in combinations(questions.values(), 2):
        assert not one & other


def test_no_held_out_combination_is_met_in_a_round_or_a_pair(
    questions: dict[str, set[str]],
) -> None:
    met = [ids for purpose, ids in questions.items() if purpose != "heldout"]
    heldout = {combo_of(identity) for identity in questions["heldout"]}
    assert not heldout & {combo_of(identity) for identity in set().union(*met)}


def test_every_purpose_meets_every_intent(questions: dict[str, set[str]]) -> None:
    for ids in questions.values():
        assert {combo_of(identity).intent for identity in ids} == set(PHRASINGS)


def test_demonstrations_cover_every_combination_in_words_asked_nowhere_else(
    world: ClinicWorld,
) -> None:
    shown = Counter(d.conversation.last for d in world.demonstrations())
    pairs = world.reward_pairs({})
    rounds = [q for n in (1, 2, 3) for q in world.round_questions(n, ROUNDS)]
    asked = {q.conversation.last for q in (*world.heldout_questions(HELDOUT), *rounds)}
    asked |= {pair.conversation.last for pair in (*pairs.train, *pairs.heldout)}
    assert not asked & set(shown)
    assert len(shown) == 2 * len(world.knowledge.combos)


def test_one_pass_over_the_demonstrations_fits_the_training_budget(world: ClinicWorld) -> None:
    words = sum(len(f"{d.conversation.last} {d.response}".split()) for d in world.demonstrations())
    assert 150_000 < words < 230_000


def test_the_demonstrated_mix_leaves_room_to_improve(world: ClinicWorld) -> None:
    assert 0.5 < mix_gold(world) < 0.7


def test_questions_are_distinct_and_carry_a_reference_that_earns_one(world: ClinicWorld) -> None:
    asked = world.heldout_questions(HELDOUT)
    assert len({question.id for question in asked}) == HELDOUT
    for question in asked:
        assert question.reference is not None
        assert world.gold(question, question.reference) == pytest.approx(1.0)


def test_a_smaller_held_out_set_is_the_head_of_a_larger_one(world: ClinicWorld) -> None:
    assert list(world.heldout_questions(20)) == list(world.heldout_questions(HELDOUT))[:20]


def test_rounds_walk_their_pool_and_wrap() -> None:
    world = ClinicWorld(seed=3)
    walked = [world.round_questions(number, ROUNDS) for number in (1, 2, 3, 4, 5)]
    assert all(len({question.id for question in one}) == ROUNDS for one in walked)
    assert len({question.id for one in walked[:4] for question in one}) == 4 * ROUNDS
    assert {q.id for q in walked[4]} & {q.id for q in walked[0]}


def test_wanting_more_than_there_is_is_refused() -> None:
    world = ClinicWorld()
    with pytest.raises(CorpusError, match=r"data\.round_questions: 9999 wanted, the data has 832"):
        world.round_questions(1, 9999)
    with pytest.raises(
        CorpusError, match=r"data\.heldout_questions: 9999 wanted, the data has 416"
    ):
        world.heldout_questions(9999)


def test_the_pairs_are_as_many_as_promised_and_distinct(world: ClinicWorld) -> None:
    pairs = world.reward_pairs({})
    assert (len(pairs.train), len(pairs.heldout)) == (TRAIN_PAIRS, HELDOUT_PAIRS)
    assert len(set(pairs.train)) == TRAIN_PAIRS


def test_no_fact_of_another_purpose_is_met_in_a_pair(world: ClinicWorld) -> None:
    pairs = world.reward_pairs({}).train
    met = {combo_of(pair.question_id) for pair in pairs}
    text = " ".join(f"{pair.chosen} {pair.rejected}" for pair in pairs)
    for question in world.heldout_questions(HELDOUT):
        combo = combo_of(question.id)
        assert combo not in met
        if combo.intent is not Intent.RED_FLAGS:
            assert not [f for f in world.knowledge.facts(combo) if f", {f} and" in text]


def test_the_order_of_clean_pairs_agrees_with_gold(world: ClinicWorld) -> None:
    gaps = [_gap(world, pair) for pair in world.reward_pairs({}).heldout]
    assert mean(gap > 0 for gap in gaps) >= 0.97


def test_a_tenth_of_the_training_labels_is_wrong(world: ClinicWorld) -> None:
    gaps = [_gap(world, pair) for pair in world.reward_pairs({}).train]
    assert mean(gap < 0 for gap in gaps) == pytest.approx(FLIPPED_SHARE, abs=0.02)


def test_the_longer_answer_is_no_better(world: ClinicWorld) -> None:
    pairs = world.reward_pairs({})
    assert 0.40 <= longer_wins(pairs.heldout) <= 0.60
    assert 0.40 <= longer_wins(pairs.train) <= 0.60


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    first, same, other = (ClinicWorld(seed=seed) for seed in (5, 5, 6))
    assert first.digest == same.digest != other.digest


def test_gold_is_the_total_of_the_grade(world: ClinicWorld) -> None:
    question = world.heldout_questions(1)[0]
    answer = "Get urgent help."
    assert world.gold(question, answer) == world.grade(question, answer).total


def test_a_look_at_the_world_shows_counts_and_grades() -> None:
    world = ClinicWorld()
    lines = list(describe(world))
    assert any(line.startswith("longer wins") for line in lines)
    assert sum("1.00  good" in line for line in lines) == 2
    assert Combo("migraine", world.knowledge.combos[0].intent) in world.knowledge.combos
