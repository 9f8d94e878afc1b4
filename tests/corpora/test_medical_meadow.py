import json
import os
import random
from collections.abc import Sequence, Set
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.medical_meadow import (
    LONGEST_WORDS,
    REWARD_HELDOUT_SHARE,
    SHORTEST_WORDS,
    MedicalMeadowWorld,
    read_medical_meadow,
    shorten,
    topic,
)
from corpora.overlap import rouge_l, tokens
from corpora.preference import Pair
from corpora.world import Question

DATA = Path(os.environ.get("MEDPREF_DATA") or Path(__file__).parents[3] / "shared/data")
REAL = DATA / "medical-meadow/medical_meadow_small.json"
needs_data = pytest.mark.skipif(
    not REAL.is_file(), reason=f"needs {REAL.name} under {DATA}/medical-meadow; set MEDPREF_DATA"
)

FORMS = [
    "What causes {}?",
    "What are the symptoms of {}?",
    "Who is at highest risk for {} ?",
    "What to expect if I have {}  (Outlook/Prognosis)?",
]


def record(question: str, answer: str, instruction: str = "Answer truthfully") -> dict[str, str]:
    return {"instruction": instruction, "input": question, "output": answer}


def some_answer(chance: random.Random) -> str:
    sentences = [f"Sign {chance.randrange(10**6)} is seen early in most of them." for _ in range(3)]
    return " ".join(sentences[: chance.randint(1, 3)])


def records(topics: int, *, seed: int = 0, repeats: int = 0) -> list[dict[str, str]]:
    chance = random.Random(seed)
    asked = [form.format(f"disease {n}") for n in range(topics) for form in FORMS]
    rows = [record(question, some_answer(chance)) for question in asked]
    return rows + [
        record(chance.choice(rows)["input"].upper(), chance.choice(rows)["output"])
        for _ in range(repeats)
    ]


def write(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("meadow") / "small.json", records(50, repeats=40))


def pools(world: MedicalMeadowWorld) -> list[Sequence[Question]]:
    """All questions of each purpose."""
    return [
        [Question("", d.conversation, d.response) for d in world.demonstrations()],
        reward_questions(world),
        world.round_questions(1, world.sizes["round"]),
        world.heldout_questions(world.sizes["heldout"]),
    ]


def reward_questions(world: MedicalMeadowWorld) -> Sequence[Question]:
    return world.reward_questions(world.sizes["reward"])


def texts_of(world: MedicalMeadowWorld) -> list[set[tuple[str, ...]]]:
    """The questions and answers of each purpose as tokens."""
    return [
        {tuple(tokens(text)) for q in pool for text in (q.conversation.last, q.reference or "")}
        for pool in pools(world)
    ]


def topics_of(world: MedicalMeadowWorld) -> list[set[str]]:
    return [{topic(question) for question in pool} for pool in pools(world)]


def samples_for(world: MedicalMeadowWorld) -> dict[str, list[str]]:
    """Stand-in answers of a base policy: as long as answers are, and about something else."""
    chance = random.Random(1)
    texts = [demonstration.response for demonstration in world.demonstrations()]
    return {question.id: [chance.choice(texts)] for question in reward_questions(world)}


def overlap(groups: Sequence[Set[Any]]) -> bool:
    return any(left & right for left, right in combinations(groups, 2))


def longer_wins(pairs: Sequence[Pair]) -> float:
    lengths = [(len(pair.chosen.split()), len(pair.rejected.split())) for pair in pairs]
    return fmean((chosen > rejected) + 0.5 * (chosen == rejected) for chosen, rejected in lengths)


@given(st.integers())
@settings(max_examples=50, deadline=None)
def test_no_seed_lets_two_purposes_share_a_question_an_answer_or_a_topic(
    file: Path, seed: int
) -> None:
    world = MedicalMeadowWorld(file, seed)
    assert all(texts_of(world))
    assert not overlap(texts_of(world))
    assert not overlap(topics_of(world))


@given(
    st.integers(),
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(FORMS), st.integers(0, 30)), max_size=60
    ),
)
@settings(max_examples=50, deadline=None)
def test_repeated_questions_and_answers_never_cross_purposes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, extra: list[tuple[int, str, int]]
) -> None:
    base = records(25)
    more = [record(form.format(f"Disease  {n}"), base[m]["output"]) for n, form, m in extra]
    world = MedicalMeadowWorld(write(tmp_path_factory.mktemp("m") / "m.json", more + base), seed)
    assert not overlap(texts_of(world))


@given(st.integers())
@settings(max_examples=25, deadline=None)
def test_reward_pairs_are_split_by_topic_and_share_no_text(file: Path, seed: int) -> None:
    world = MedicalMeadowWorld(file, seed)
    pairs = world.reward_pairs({question.id: [] for question in reward_questions(world)})
    texts = [
        {text for p in part for text in (p.chosen, p.rejected)}
        for part in (pairs.train, pairs.heldout)
    ]
    assert all(texts)
    assert not texts[0] & texts[1]


def test_the_same_seed_gives_the_same_world_and_another_seed_another(file: Path) -> None:
    first, again, other = (MedicalMeadowWorld(file, seed) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    assert pools(first) == pools(again)
    assert first.heldout_questions(9) != other.heldout_questions(9)
    samples = samples_for(first)
    assert first.reward_pairs(samples) == again.reward_pairs(dict(reversed(samples.items())))


def test_fewer_questions_are_the_first_of_more(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    assert world.heldout_questions(3) == world.heldout_questions(9)[:3]
    assert world.reward_questions(3) == world.reward_questions(9)[:3]


def test_rounds_walk_the_pool_and_wrap(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    size = world.sizes["round"]
    pool = world.round_questions(1, size)
    assert [*world.round_questions(1, 5), *world.round_questions(2, 5)] == pool[:10]
    assert world.round_questions(2, size - 1)[:2] == [pool[-1], pool[0]]


def test_more_questions_than_there_are_is_an_error_that_names_the_field(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    for field, ask in {
        "round": lambda count: world.round_questions(1, count),
        "heldout": world.heldout_questions,
        "reward": world.reward_questions,
    }.items():
        with pytest.raises(CorpusError, match=rf"^data\.{field}_questions: 999 wanted, .* at most"):
            ask(999)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", records(25))
    before = MedicalMeadowWorld(path, 0).digest
    write(path, records(25, seed=1))
    assert MedicalMeadowWorld(path, 0).digest != before


def test_every_question_gives_three_contrasts_and_the_reference_is_chosen(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    questions = {question.id: question for question in reward_questions(world)}
    samples = samples_for(world)
    pairs = world.reward_pairs(samples)
    by_question: dict[str, list[Pair]] = {}
    for pair in [*pairs.train, *pairs.heldout]:
        by_question.setdefault(pair.question_id, []).append(pair)
    assert by_question.keys() == questions.keys()
    for name, (sampled, another, cut) in by_question.items():
        assert {sampled.chosen, another.chosen, cut.chosen} == {questions[name].reference}
        assert sampled.rejected == samples[name][0]
        assert another.rejected in {q.reference for q in questions.values()} - {another.chosen}
        assert cut.chosen.startswith(cut.rejected)
        assert cut.rejected[-1] not in ".!?"
        assert 0.3 < len(cut.rejected.split()) / len(cut.chosen.split()) < 0.7


@pytest.mark.parametrize(
    "sample",
    [pytest.param([], id="none"), pytest.param([" "], id="blank"), pytest.param(None, id="right")],
)
def test_a_sample_that_cannot_be_worse_or_read_makes_no_pair(
    file: Path, sample: list[str] | None
) -> None:
    world = MedicalMeadowWorld(file, 0)
    questions = reward_questions(world)
    answers = {q.id: [(q.reference or "").upper()] if sample is None else sample for q in questions}
    pairs = world.reward_pairs(answers)
    assert len(pairs.train) + len(pairs.heldout) == 2 * len(questions)


def test_samples_of_another_seed_are_refused(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    with pytest.raises(CorpusError, match="'record-0' is no reward question of medical-meadow"):
        world.reward_pairs({"record-0": ["An answer."]})


def test_pairs_without_samples_ask_for_reward_questions(file: Path) -> None:
    with pytest.raises(CorpusError, match=r"set data\.reward_questions=N, at most \d+$"):
        MedicalMeadowWorld(file, 0).reward_pairs({})


def test_gold_is_the_overlap_with_the_reference(file: Path) -> None:
    world = MedicalMeadowWorld(file, 0)
    question = world.heldout_questions(1)[0]
    reference = question.reference or ""
    assert world.gold(question, reference) == 1
    assert world.gold(question, "Nothing alike.") == 0
    assert world.gold(question, reference[:30]) == rouge_l(reference[:30], reference)
    assert world.gold(Question("x", Conversation.ask("Why?")), "So.") is None


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("What causes Acute renal failure?", "acute failure renal"),
        ("Who is at highest risk for renal failure, acute ?", "acute failure renal"),
        ("What to expect if I have Gout  (Outlook/Prognosis)?", "gout"),
        ("How do I know if I have gout and what are the symptoms of gout?", "gout"),
        ("What are the symptoms of the Psittacosis patient information?", "psittacosis"),
        ("Where to Find Medical Care for Listeriosis?", "listeriosis"),
        ("How is an Amputation done?", "amputation"),
        ("Is HFRS ever fatal?", "ever fatal hfrs is"),
    ],
)
def test_the_topic_is_the_same_in_every_form(question: str, about: str) -> None:
    assert topic(Question("x", Conversation.ask(question))) == about


FILLER = " ".join(["word"] * LONGEST_WORDS)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        pytest.param(" One here. ", "One here.", id="whole"),
        pytest.param(f"One here. Two {FILLER}.", "One here.", id="second is too long"),
        pytest.param(f"One here.Two {FILLER}.", "One here.", id="no space between"),
        pytest.param(f"One. Signs include:\nFever {FILLER}", "One.", id="announces a list"),
        pytest.param(f"Fever Cough\nRash {FILLER}", "Fever Cough", id="a line ends"),
        pytest.param(f"Vitamin C. Two {FILLER}.", "", id="an initial is no end"),
        pytest.param(f"Do this: 1. Wash {FILLER}", "", id="nor is the number of a list"),
        pytest.param(f"{FILLER} more.", "", id="nothing fits"),
        pytest.param("", "", id="empty"),
    ],
)
def test_answers_keep_the_leading_sentences_that_fit(answer: str, kept: str) -> None:
    assert shorten(answer) == kept


@given(st.text(alphabet="ab .:\nC"))
def test_a_shortened_answer_is_a_lead_within_the_limit(answer: str) -> None:
    kept = shorten(answer)
    assert answer.strip().startswith(kept)
    assert len(kept.split()) <= LONGEST_WORDS


def test_records_are_dropped_for_a_counted_reason(tmp_path: Path) -> None:
    good = "The cause is not known to anybody at all."
    rows = [
        record("What causes Bell%27s  palsy ?", good),
        record("what causes bell's palsy", "Another answer to the very same question is here."),
        record("What causes gout?", good.upper()),
        record("What causes gout?", "Unknown."),
        record("What causes gout?", ""),
        record("What causes gout?", f"Who knows? {FILLER}"),
        record("What is WikiDoc?", "It is a place where editors write about diseases."),
    ]
    meadow = read_medical_meadow(write(tmp_path / "m.json", rows))
    assert [(q.id, q.conversation.last, q.reference) for q in meadow.questions] == [
        ("record-1", "What causes Bell's palsy?", good)
    ]
    assert meadow.dropped == {
        "repeated": 2, "short answer": 2, "long sentences": 1, "wiki editing": 1,
    }  # fmt: skip


def test_instructions_that_differ_are_part_of_the_question(tmp_path: Path) -> None:
    answers = [f"Answer {n} has to be at least eight words long." for n in range(3)]
    rows = [
        record("A 40-year-old woman …", answers[0], "Give the diagnosis."),
        record("A 40-year-old woman …", answers[1], "Give the treatment."),
        record("", answers[2], "What is gout?"),
    ]
    meadow = read_medical_meadow(write(tmp_path / "m.json", rows))
    assert [question.conversation.last for question in meadow.questions] == [
        "Give the diagnosis.\n\nA 40-year-old woman …",
        "Give the treatment.\n\nA 40-year-old woman …",
        "What is gout?",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "the file is empty; set data.path=FILE", id="empty"),
        pytest.param("[{", "malformed JSON: .* line 1 column 3; mend it", id="malformed"),
        pytest.param("[]", "expected a list of at least one JSON object", id="no record"),
        pytest.param('{"input": "a"}', "expected a list", id="an object"),
        pytest.param('["a"]', "record 1: expected a JSON object, got 'a'", id="no object"),
        pytest.param(
            json.dumps([record("a", "b"), {"instruction": "i", "input": "a"}]),
            "record 2: output: missing; give every record this text",
            id="no output",
        ),
        pytest.param(
            json.dumps([record("a", "b") | {"input": None}]),
            "record 1: input: expected text, got None",
            id="null input",
        ),
        pytest.param(
            json.dumps([record(" ", "b", " ")]), "record 1: input: empty", id="nothing asked"
        ),
        pytest.param(
            json.dumps(records(4)), "4 topics in 16 usable records; give at least 20", id="few"
        ),
    ],
)
def test_a_bad_file_is_one_line_that_names_record_and_fix(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "m.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as caught:
        MedicalMeadowWorld(path, 0)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def real() -> MedicalMeadowWorld:
    return MedicalMeadowWorld(REAL, 7)


@needs_data
def test_the_documented_counts_of_the_small_meadow_hold(real: MedicalMeadowWorld) -> None:
    assert real.dropped == {
        "repeated": 390, "short answer": 124, "long sentences": 73, "wiki editing": 90,
    }  # fmt: skip
    assert real.sizes == {"demonstration": 3132, "reward": 851, "round": 758, "heldout": 524}
    assert sum(map(len, topics_of(real))) == 1506


@needs_data
@pytest.mark.parametrize("seed", [0, 7, 1234])
def test_real_purposes_are_disjoint_and_answers_are_within_the_limits(seed: int) -> None:
    world = MedicalMeadowWorld(REAL, seed)
    assert not overlap(texts_of(world))
    assert not overlap(topics_of(world))
    answers = [demonstration.response for demonstration in world.demonstrations()]
    assert all(SHORTEST_WORDS <= len(answer.split()) <= LONGEST_WORDS for answer in answers)


@needs_data
def test_length_alone_says_little_about_the_real_pairs(real: MedicalMeadowWorld) -> None:
    pairs = real.reward_pairs(samples_for(real))
    share = len(pairs.heldout) / (len(pairs.heldout) + len(pairs.train))
    assert share == pytest.approx(REWARD_HELDOUT_SHARE, abs=0.05)
    for part in (pairs.train, pairs.heldout):
        assert longer_wins(part) == pytest.approx(0.5, abs=0.1)
    assert longer_wins(pairs.train[1::3]) < 0.1  # another's answer is as long or longer
    assert longer_wins(pairs.train[2::3]) == 1  # half an answer is shorter
