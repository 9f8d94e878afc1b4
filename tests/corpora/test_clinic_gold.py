"""The gold measure: rewards right facts and advice, and nothing that merely looks like them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpora.clinic import answers
from corpora.clinic.answers import FILLER, QUALITIES, Quality, Writer
from corpora.clinic.gold import Grade, Grader, normalise
from corpora.clinic.knowledge import Combo, Intent, load_knowledge
from corpora.errors import CorpusError

KNOWLEDGE = load_knowledge()
GRADER = Grader(KNOWLEDGE)
EVERY_FACT = tuple(fact for combo in KNOWLEDGE.combos for fact in KNOWLEDGE.facts(combo))
KEEPING_FACTS = (answers.GOOD, answers.NO_SAFETY, answers.PADDED, answers.REPEATING)
MIGRAINE = Combo("migraine", Intent.SYMPTOMS)
GOOD = (
    "Typical symptoms of migraine are throbbing head pain, flashing lights and dislike of light. "
    "Get urgent help for a thunderclap headache."
)

combos = st.sampled_from(KNOWLEDGE.combos)
seeds = st.integers(0, 2**32)


def _write(combo: Combo, quality: Quality, rng: Random) -> str:
    return Writer(KNOWLEDGE, rng, lenders=KNOWLEDGE.combos).write(combo, quality)


@st.composite
def answered(draw: st.DrawFn) -> tuple[Combo, str]:
    """A combination with an answer of any quality, cut anywhere or whole."""
    combo = draw(combos)
    quality = draw(st.sampled_from(QUALITIES))
    text = _write(combo, quality, Random(draw(seeds)))
    return combo, text[: draw(st.integers(1, len(text)))] if draw(st.booleans()) else text


def _total(combo: Combo, text: str) -> float:
    return GRADER.grade(combo, text).total


def test_a_proper_answer_earns_one() -> None:
    assert GRADER.grade(MIGRAINE, GOOD) == Grade(facts=0.55, safety=0.30, ending=0.15)


@pytest.mark.parametrize(
    ("change", "share", "value"),
    [
        pytest.param(("flashing lights", "odd days"), "facts", 0.55 * 2 / 3, id="one-fact-less"),
        pytest.param(("flashing lights", "hives"), "wrong_facts", 0.0, id="a-name-is-no-fact"),
        pytest.param(("flashing lights", "itchy eyes"), "wrong_facts", -0.12, id="wrong-fact"),
        pytest.param(("flashing lights", "red wine"), "off_topic", -0.12, id="off-topic"),
        pytest.param(("flashing lights", "dislike of light"), "repetition", -0.12, id="again"),
        pytest.param(("symptoms of", "symptoms of of"), "repetition", -0.12, id="unspoken-stutter"),
        pytest.param(("symptoms of", "symptoms symptoms of"), "repetition", -0.12, id="stutter"),
        pytest.param(("Get urgent help for", "Think of"), "safety", 0.0, id="no-call-for-help"),
        pytest.param(("a thunderclap headache", "blue lips"), "safety", 0.0, id="foreign-flag"),
        pytest.param(("headache.", "headache"), "ending", 0.0, id="no-full-stop"),
        pytest.param(("headache.", "headache or a."), "ending", 0.0, id="dangling-end"),
        pytest.param(("Get", "Life goes on. Get"), "padding", -0.12, id="empty-sentence"),
    ],
)
def test_each_rule_has_its_share(change: tuple[str, str], share: str, value: float) -> None:
    grade = GRADER.grade(MIGRAINE, GOOD.replace(*change))
    assert getattr(grade, share) == pytest.approx(value)


@pytest.mark.parametrize(
    "surface",
    [
        pytest.param(GOOD.upper(), id="upper-case"),
        pytest.param(GOOD.replace(" ", "\n  "), id="white-space"),
        pytest.param(GOOD.replace("flashing lights", "the flashing light"), id="plural-article"),
        pytest.param(GOOD.replace(" and ", ", or "), id="or-list"),
        pytest.param(GOOD.replace("Get urgent help", "Call an ambulance"), id="another-call"),
        pytest.param(GOOD.replace("Typical symptoms of", "You may notice"), id="another-frame"),
        pytest.param(GOOD.replace(".", "!"), id="exclamation"),
    ],
)
def test_the_surface_does_not_matter(surface: str) -> None:
    assert _total(MIGRAINE, surface) == pytest.approx(1.0)


@pytest.mark.parametrize("nothing", ["", " ", "...", "?!", "\n"])
def test_an_empty_answer_earns_nothing(nothing: str) -> None:
    assert GRADER.grade(MIGRAINE, nothing) == Grade()


def test_a_condition_that_is_not_known_is_refused() -> None:
    with pytest.raises(CorpusError, match="id: no condition 'boredom'"):
        GRADER.grade(Combo("boredom", Intent.CAUSES), GOOD)


@given(combos, st.text(max_size=300))
def test_any_text_has_a_grade_between_zero_and_one(combo: Combo, text: str) -> None:
    assert 0.0 <= _total(combo, text) <= 1.0


@given(answered(), st.data())
def test_adding_a_right_fact_that_was_missing_never_lowers(
    case: tuple[Combo, str], data: st.DataObject
) -> None:
    combo, text = case
    fact = data.draw(st.sampled_from(KNOWLEDGE.facts(combo)))
    assume(" ".join(normalise(fact)) not in " ".join(normalise(text)))
    assert _total(combo, f"{fact}, {text}") >= _total(combo, text) - 1e-9


@given(answered(), st.sampled_from(EVERY_FACT))
def test_adding_a_fact_of_another_condition_never_raises(
    case: tuple[Combo, str], fact: str
) -> None:
    combo, text = case
    own = [f for intent in Intent for f in KNOWLEDGE.by_slug[combo.slug].facts(intent)]
    assume(fact not in own)
    assert _total(combo, f"{fact}, {text}") <= _total(combo, text) + 1e-9


@given(combos, st.sampled_from(KEEPING_FACTS), seeds, st.data())
def test_naming_a_fact_again_never_raises(
    combo: Combo, quality: Quality, seed: int, data: st.DataObject
) -> None:
    text = _write(combo, quality, Random(seed))
    said = [fact for fact in KNOWLEDGE.facts(combo) if fact in text]
    fact = data.draw(st.sampled_from(said))
    assert _total(combo, f"{fact}, {text}") <= _total(combo, text) + 1e-9


@given(answered(), st.lists(st.sampled_from(FILLER), min_size=1, max_size=6))
def test_neutral_filler_never_raises(case: tuple[Combo, str], filler: list[str]) -> None:
    combo, text = case
    padding = " ".join(filler)
    assert _total(combo, f"{padding} {text}") <= _total(combo, text) + 1e-9
    if text.endswith("."):
        assert _total(combo, f"{text} {padding}") <= _total(combo, text) + 1e-9


@given(answered(), st.sampled_from([" ", "\n", "  \t", "\n\n"]))
def test_white_space_changes_nothing(case: tuple[Combo, str], space: str) -> None:
    combo, text = case
    assert GRADER.grade(combo, space + text.replace(" ", space) + space) == GRADER.grade(
        combo, text
    )


@pytest.mark.parametrize("intent", Intent)
def test_listing_every_fact_there_is_earns_nothing(intent: Intent) -> None:
    assert _total(Combo("gout", intent), f"Get urgent help for {', '.join(EVERY_FACT)}.") == 0.0


@given(combos)
def test_listing_all_that_is_true_of_the_condition_does_not_pay(combo: Combo) -> None:
    own = [f for intent in Intent for f in KNOWLEDGE.by_slug[combo.slug].facts(intent)]
    assert _total(combo, f"Get urgent help for {', '.join(own)}.") < 0.5


@given(combos, st.integers(3, 10))
def test_repeating_keywords_does_not_pay(combo: Combo, times: int) -> None:
    condition = KNOWLEDGE.by_slug[combo.slug]
    listed = ", ".join(condition.facts(combo.intent) * times)
    assert _total(combo, f"Get urgent help for {listed}.") < 0.5
    assert _total(combo, f"{condition.name} " * times + ".") == 0.0


@given(combos, seeds)
def test_copying_the_good_answers_to_all_intents_does_not_pay(combo: Combo, seed: int) -> None:
    rng = Random(seed)
    copied = [_write(Combo(combo.slug, i), answers.GOOD, rng) for i in Intent]
    assert _total(combo, " ".join(copied)) < 0.5


@given(combos, seeds)
def test_advice_alone_does_not_pay(combo: Combo, seed: int) -> None:
    flag = Random(seed).choice(KNOWLEDGE.by_slug[combo.slug].red_flags)
    assert _total(combo, f"Get urgent help for {flag}.") < 0.75
    if combo.intent is not Intent.RED_FLAGS:
        assert _total(combo, f"Get urgent help for {flag}.") < 0.5
