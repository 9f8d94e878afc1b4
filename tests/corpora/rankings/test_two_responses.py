"""Records that compare two responses in the file's order: LLMBar, PandaLM, JudgeBench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.rankings.judge_bench import JUDGE_BENCH
from corpora.rankings.llmbar import LLMBAR
from corpora.rankings.pandalm import PANDALM, majority
from tests.corpora.rankings.reading import ASKED, detected, read, refusal

OUTPUTS = {"input": ASKED, "output_1": "Antibiotics.", "output_2": "Saline.", "label": 2}
JUDGED = {
    "idx": 3,
    "instruction": "Say it in plain words.",
    "input": "Acute rhinitis.",
    "response1": "A cold.",
    "response2": "",
    "cmp_key": "model-a_model-b",
    "annotator1": 1,
    "annotator2": 0,
    "annotator3": 1,
}
RESPONSES = {
    "pair_id": "5f0c",
    "source": "mmlu-pro-health",
    "question": ASKED,
    "response_A": "Antibiotics.",
    "response_B": "Saline.",
    "response_model": "model-a",
    "label": "B>A",
}


@pytest.mark.parametrize(("label", "ranks"), [(1, (1, 2)), (2, (2, 1)), ("2", (2, 1))])
def test_llmbar_keeps_the_order_of_its_outputs(label: object, ranks: tuple[int, ...]) -> None:
    group = read(LLMBAR, OUTPUTS | {"label": label}, "FairEval")
    assert group.conversation == Conversation.ask(ASKED)
    assert (group.candidates, group.ranks) == (("Antibiotics.", "Saline."), ranks)
    assert (group.id, group.subset) == ("FairEval:7", "FairEval")
    assert detected(OUTPUTS) is LLMBAR


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 0}, "label: 0 names no output; give 1 or 2"),
        ({"label": "both"}, "label: expected a whole number, got 'both'"),
        ({"output_2": None}, "output_2: expected text, got None"),
    ],
)
def test_a_bad_llmbar_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(LLMBAR, OUTPUTS | changes).startswith(message)


@pytest.mark.parametrize(
    ("verdicts", "ranks"),
    [
        pytest.param((1, 1, 1), (1, 2), id="first"),
        pytest.param((2, 1, 2), (2, 1), id="second"),
        pytest.param((0, 2, 0), (1, 1), id="tie"),
        pytest.param((2, 0, 1), (1, 1), id="no two agree"),
    ],
)
def test_pandalm_takes_what_two_of_three_say(
    verdicts: Sequence[int], ranks: tuple[int, ...]
) -> None:
    changes = {f"annotator{n}": verdict for n, verdict in enumerate(verdicts, start=1)}
    group = read(PANDALM, JUDGED | changes)
    assert (group.candidates, group.ranks) == (("A cold.", ""), ranks)
    assert group.is_tie == (ranks == (1, 1))
    assert group.details["annotators"] == list(verdicts)


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=3, max_size=3))
def test_swapping_the_responses_swaps_the_majority(verdicts: list[int]) -> None:
    swapped = {0: 0, 1: 2, 2: 1}
    assert majority([swapped[verdict] for verdict in verdicts]) == swapped[majority(verdicts)]


def test_a_pandalm_question_has_its_input_beneath() -> None:
    group = read(PANDALM, JUDGED)
    assert group.conversation == Conversation.ask("Say it in plain words.\n\nAcute rhinitis.")
    assert (group.id, group.details["cmp_key"]) == ("3", "model-a_model-b")
    for nothing in ("", " \n", None):
        bare = read(PANDALM, JUDGED | {"input": nothing}).conversation
        assert bare == Conversation.ask("Say it in plain words.")
    assert detected(JUDGED) is PANDALM


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"response2": True},
            "response2: the JSON boolean true instead of the response's text; restore the text or"
            " leave the record out",
            id="boolean",
        ),
        pytest.param({"response1": None}, "response1: expected text, got None", id="null"),
        pytest.param(
            {"annotator2": 3}, "annotator2: 3 is no verdict; give 0 for a tie, 1 or 2", id="verdict"
        ),
        pytest.param({"annotator3": None}, "annotator3: missing; give every", id="no verdict"),
        pytest.param({"instruction": 1}, "instruction: expected text, got 1", id="question"),
    ],
)
def test_a_bad_pandalm_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(PANDALM, JUDGED | changes).startswith(message)


@pytest.mark.parametrize(("label", "ranks"), [("A>B", (1, 2)), ("B>A", (2, 1))])
def test_judgebench_keeps_the_order_of_its_responses(label: str, ranks: tuple[int, ...]) -> None:
    group = read(JUDGE_BENCH, RESPONSES | {"label": label}, "gpt")
    assert group.conversation == Conversation.ask(ASKED)
    assert (group.candidates, group.ranks) == (("Antibiotics.", "Saline."), ranks)
    assert (group.id, group.subset) == ("5f0c", "mmlu-pro-health")
    assert group.details == {"response_model": "model-a"}
    assert detected(RESPONSES) is JUDGE_BENCH


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "A=B"}, "label: 'A=B' names no better response; give A>B or B>A"),
        ({"response_B": None}, "response_B: expected text, got None"),
        ({"source": None}, "source: expected text, got None"),
    ],
)
def test_a_bad_judgebench_record_is_named(changes: dict[str, Any], message: str) -> None:
    assert refusal(JUDGE_BENCH, RESPONSES | changes).startswith(message)
