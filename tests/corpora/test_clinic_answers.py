"""Questions with stable ids, and answers whose defects are the ones that were asked for."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.clinic import answers
from corpora.clinic.answers import FILLER, FRAMES, OPENERS, QUALITIES, Quality, Writer
from corpora.clinic.gold import Grade, Grader
from corpora.clinic.knowledge import Combo, Intent, load_knowledge
from corpora.clinic.questions import PHRASING_COUNT, PHRASINGS, ask, combo_of, question_id
from corpora.errors import CorpusError

KNOWLEDGE = load_knowledge()
GRADER = Grader(KNOWLEDGE)

combos = st.sampled_from(KNOWLEDGE.combos)
advised = st.sampled_from([c for c in KNOWLEDGE.combos if c.intent.needs_safety_advice])
seeds = st.integers(0, 2**32)


def _write(combo: Combo, quality: Quality, rng: Random) -> str:
    return Writer(KNOWLEDGE, rng, lenders=KNOWLEDGE.combos).write(combo, quality)


def _grade(combo: Combo, quality: Quality, seed: int) -> Grade:
    return GRADER.grade(combo, _write(combo, quality, Random(seed)))


def test_there_are_at_least_500_distinct_questions() -> None:
    asked = {ask(KNOWLEDGE, combo, n) for combo in KNOWLEDGE.combos for n in range(PHRASING_COUNT)}
    assert len(asked) == len(KNOWLEDGE.combos) * PHRASING_COUNT >= 500


def test_every_intent_has_its_phrasings_and_frames() -> None:
    for intent in Intent:
        assert len(set(PHRASINGS[intent])) == PHRASING_COUNT
        assert len(FRAMES[intent]) == 2
    assert len({quality.name for quality in QUALITIES}) == len(QUALITIES)


def test_a_question_reads_like_one() -> None:
    assert ask(KNOWLEDGE, Combo("flu", Intent.CAUSES), 0) == "What causes the flu?"


@given(combos, st.integers(0, PHRASING_COUNT - 1))
def test_an_id_names_its_combination(combo: Combo, phrasing: int) -> None:
    assert combo_of(question_id(combo, phrasing)) == combo


@pytest.mark.parametrize("identity", ["", "clinic/flu", "ward/flu/causes/1", "clinic/flu/cost/1"])
def test_an_id_of_another_world_is_refused(identity: str) -> None:
    with pytest.raises(CorpusError, match=r"^id: "):
        combo_of(identity)


@given(combos, seeds)
def test_a_good_answer_earns_everything(combo: Combo, seed: int) -> None:
    grade = _grade(combo, answers.GOOD, seed)
    assert grade.total == pytest.approx(1.0)
    assert grade.wrong_facts == grade.off_topic == grade.repetition == grade.padding == 0


@given(combos, st.sampled_from([q for q in QUALITIES if q is not answers.GOOD]), seeds)
def test_every_defect_costs(combo: Combo, quality: Quality, seed: int) -> None:
    if quality.suits(combo.intent):
        assert _grade(combo, quality, seed).total < 0.95


@given(combos, seeds)
def test_wrong_facts_are_those_of_another_condition(combo: Combo, seed: int) -> None:
    grade = _grade(combo, answers.ALL_WRONG, seed)
    assert grade.wrong_facts < -0.2
    assert grade.total < 0.3


@given(advised, seeds)
def test_advice_that_is_missing_or_foreign_is_seen(combo: Combo, seed: int) -> None:
    assert _grade(combo, answers.NO_SAFETY, seed).safety == 0
    assert _grade(combo, answers.FOREIGN_SAFETY, seed).wrong_facts < 0


@given(combos, seeds)
def test_padding_and_repetition_are_seen(combo: Combo, seed: int) -> None:
    assert _grade(combo, answers.PADDED, seed).padding == pytest.approx(-0.24)
    assert _grade(combo, answers.REPEATING, seed).repetition == pytest.approx(-0.36)


@given(combos, seeds)
def test_an_answer_that_breaks_off_has_no_full_stop(combo: Combo, seed: int) -> None:
    text = _write(combo, answers.BROKEN_OFF, Random(seed))
    assert not text.endswith(".")
    assert GRADER.grade(combo, text).ending == 0


@given(combos, st.sampled_from(QUALITIES), seeds)
def test_the_same_seed_writes_the_same_answer(combo: Combo, quality: Quality, seed: int) -> None:
    first, second = (_write(combo, quality, Random(seed)) for _ in range(2))
    assert first == second


@given(combos, st.sampled_from(QUALITIES), seeds)
def test_without_lenders_only_what_borrows_nothing_can_be_written(
    combo: Combo, quality: Quality, seed: int
) -> None:
    writer = Writer(KNOWLEDGE, Random(seed), lenders=[combo])
    assert writer.can_write(combo, quality) is (
        quality.suits(combo.intent) and quality.borrows is None
    )


def test_no_frame_and_no_filler_holds_a_fact_of_its_own() -> None:
    for combo in KNOWLEDGE.combos:
        name = KNOWLEDGE.by_slug[combo.slug].name
        for frame in FRAMES[combo.intent]:
            grade = GRADER.grade(combo, frame.format(name=name, a="x", b="y", c="z"))
            assert grade == Grade(padding=-0.12), frame
    for filler in (*OPENERS, *FILLER):
        assert GRADER.grade(KNOWLEDGE.combos[0], filler) == Grade(padding=-0.12), filler
