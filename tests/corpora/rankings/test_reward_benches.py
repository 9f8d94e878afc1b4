"""Records of the reward benchmarks: RewardBench and its prior sets, RewardBench 2, RM-Bench, …."""

from __future__ import annotations

from typing import Any

import pytest

from corpora.conversation import Conversation
from corpora.rankings.preference_test_sets import PREFERENCE_TEST_SETS
from corpora.rankings.reward_bench import REWARD_BENCH
from corpora.rankings.reward_bench_2 import REWARD_BENCH_2
from corpora.rankings.rm_bench import RM_BENCH
from corpora.rankings.ultramedical_preference import ULTRAMEDICAL_PREFERENCE
from tests.corpora.rankings.reading import ASKED, detected, read, refusal, said, user

PAIR: dict[str, Any] = {"prompt": ASKED, "chosen": "Saline.", "rejected": "Antibiotics."}
WRITERS = {"chosen_model": "model-a", "rejected_model": "model-b"}

REWARD = {**PAIR, **WRITERS, "id": 31, "subset": "alpacaeval-easy"}
TIES = {
    "id": "tied:12",
    "subset": "Ties",
    "prompt": "Name a bone of the hand.",
    "chosen": ["The scaphoid.", "The lunate."],
    "rejected": ["The femur."],
    "num_correct": 2,
    "total_completions": 3,
}
STYLES: dict[str, Any] = {
    "id": 9,
    "domain": "chat",
    "prompt": "Is fever a disease?",
    "chosen": ["No.", "No, a sign.", "**No.**"],
    "rejected": ["Yes.", "Yes, a disease.", "**Yes.**"],
}
MEDICAL = {**PAIR, "prompt_id": "MedQuad,7", "label_type": "hard"}


def test_a_reward_bench_record_is_a_pair_with_who_wrote_it() -> None:
    group = read(REWARD_BENCH, REWARD)
    assert group.conversation == Conversation.ask(ASKED)
    assert (group.candidates, group.ranks) == (("Saline.", "Antibiotics."), (1, 2))
    assert (group.id, group.subset, group.details) == ("31", "alpacaeval-easy", WRITERS)
    assert detected(REWARD) is REWARD_BENCH


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": None}, "subset: expected text, got None; give every record this text"),
        ({"chosen": [said("Saline.")]}, "chosen: expected text, got [{'role': 'assistant'"),
        ({"rejected_model": 3}, "rejected_model: expected text, got 3"),
    ],
)
def test_a_bad_reward_bench_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(REWARD_BENCH, REWARD | changes).startswith(message)


@pytest.mark.parametrize(
    "prompt", [pytest.param([user()], id="messages"), pytest.param(ASKED, id="text")]
)
def test_a_prior_set_is_known_by_its_file(prompt: object) -> None:
    fields = PAIR | {"prompt": prompt, "subset": "helpful-base", "id": 4}
    group = read(PREFERENCE_TEST_SETS, fields, "anthropic_helpful")
    assert (group.id, group.subset) == ("4", "anthropic_helpful")
    assert group.details == {"subsubset": "helpful-base"}
    assert group.conversation == Conversation.ask(ASKED)
    assert read(PREFERENCE_TEST_SETS, PAIR, "shp").details == {}


def test_reward_bench_2_puts_the_right_responses_first() -> None:
    group = read(REWARD_BENCH_2, TIES)
    assert group.candidates == ("The scaphoid.", "The lunate.", "The femur.")
    assert group.ranks == (1, 1, 2)
    assert (group.id, group.subset) == ("tied:12", "Ties")
    assert group.details == {"num_correct": 2}
    models = ["model-a", "model-b", "model-a"]
    assert read(REWARD_BENCH_2, {**TIES, "models": models}).details["models"] == models
    assert detected(TIES) is REWARD_BENCH_2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"num_correct": 1},
            "num_correct: says 1, but there are 2 chosen responses; get the whole record",
            id="another number of right ones",
        ),
        pytest.param(
            {"rejected": ["a", "b"]},
            "total_completions: says 3, but there are 4 responses; get the whole record",
            id="more responses",
        ),
        pytest.param({"chosen": []}, "chosen: an empty list; give at least one", id="none right"),
        pytest.param({"rejected": []}, "rejected: an empty list; give at least", id="none wrong"),
        pytest.param({"chosen": "The lunate."}, "chosen: expected a list of texts", id="a text"),
        pytest.param({"total_completions": None}, "total_completions: missing", id="no count"),
        pytest.param({"subset": None}, "subset: expected text, got None", id="no subset"),
    ],
)
def test_a_bad_reward_bench_2_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(REWARD_BENCH_2, TIES | changes).startswith(message)


def test_rm_bench_keeps_the_order_of_styles() -> None:
    group = read(RM_BENCH, STYLES)
    assert group.candidates == (*STYLES["chosen"], *STYLES["rejected"])
    assert group.ranks == (1, 1, 1, 2, 2, 2)
    assert (group.id, group.subset) == ("9", "chat")
    assert detected(STYLES) is RM_BENCH


@pytest.mark.parametrize(
    ("changes", "part", "subset"),
    [
        pytest.param({"domain": "math"}, "chat_filtered", "math", id="said by the record"),
        pytest.param({"domain": None}, "safety-refuse_filtered", "safety-refuse", id="by file"),
        pytest.param({"domain": None, "subset": "code"}, "test", "code", id="by subset"),
        pytest.param({"domain": None, "subset": "x"}, "math_filtered", "math", id="file first"),
    ],
)
def test_the_domain_of_rm_bench_is_in_the_record_or_the_file(
    changes: dict[str, Any], part: str, subset: str
) -> None:
    assert read(RM_BENCH, STYLES | changes, part).subset == subset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": ["No.", "No, a sign."]}, "chosen: 2 responses; give one in each of 3 styles"),
        ({"rejected": None}, "rejected: missing; give every record such a list"),
        ({"domain": None}, "domain: expected text, got None"),
    ],
)
def test_a_bad_rm_bench_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(RM_BENCH, STYLES | changes).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="texts"),
        pytest.param(
            {
                "chosen": [user(), said("Saline.")],
                "rejected": [user(), said("Antibiotics.")],
            },
            id="messages that repeat the prompt",
        ),
        pytest.param(
            {"chosen": said("Saline."), "rejected": said("Antibiotics.")}, id="single messages"
        ),
        pytest.param({"label_type": None, "preference_type": "Hard"}, id="another word for type"),
        pytest.param({"prompt_id": None, "id": "MedQuad,7"}, id="another word for the id"),
        pytest.param(
            {"chosen": None, "rejected": None}
            | {"chosen_response": "Saline.", "rejected_response": "Antibiotics."},
            id="another word for the answers",
        ),
    ],
)
def test_every_mirror_of_ultramedical_preference_gives_the_same_group(
    changes: dict[str, Any],
) -> None:
    group = read(ULTRAMEDICAL_PREFERENCE, MEDICAL | changes)
    assert group == read(ULTRAMEDICAL_PREFERENCE, MEDICAL)
    assert group.conversation == Conversation.ask(ASKED)
    assert (group.candidates, group.ranks) == (("Saline.", "Antibiotics."), (1, 2))
    assert (group.id, group.subset) == ("MedQuad,7", "hard")
    assert detected(MEDICAL | changes) is ULTRAMEDICAL_PREFERENCE


def test_the_scores_of_ultramedical_preference_are_kept() -> None:
    scores = {"chosen_score": 5.0, "rejected_score": 2.0, "split": "val"}
    fields = PAIR | {"metadata": {**scores, "symptoms": [], "vitals": {}}}
    group = read(ULTRAMEDICAL_PREFERENCE, fields, "validation")
    assert (group.id, group.subset, group.details) == ("validation:7", "", scores)
    assert detected(fields) is ULTRAMEDICAL_PREFERENCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": None}, "chosen: missing; give a text or a list of messages"),
        ({"rejected": user()}, "rejected: does not end with a text of the assistant"),
        ({"prompt": None}, "prompt: missing, and the answers repeat none; give it"),
        ({"label_type": 3}, "label_type: expected text, got 3"),
        ({"metadata": "x"}, "metadata: expected an object, got 'x'; mend it or drop it"),
        ({"prompt_id": 1.5}, "prompt_id: expected text or a whole number, got 1.5; mend it"),
    ],
)
def test_a_bad_record_of_ultramedical_preference_is_named(
    changes: dict[str, Any], message: str
) -> None:
    assert refusal(ULTRAMEDICAL_PREFERENCE, MEDICAL | changes).startswith(message)
