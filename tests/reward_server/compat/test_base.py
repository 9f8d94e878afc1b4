from __future__ import annotations

import base64
import math
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.compat.base import (
    NoReward,
    answered,
    classified,
    numbers_of_raw,
    packed,
    probabilities,
    refuse_longer,
    rewards_of,
    sigmoid,
    softmax,
    to_inputs,
)
from reward_server.errors import CandidateTooLong, InvalidRequest, UnsupportedInput
from reward_server.protocol import CandidateResult, ChatMessage, ItemError, ItemErrorCode, Usage
from reward_server.scorer import RawInput, RawScored

LARGEST = math.ldexp(1 - 2**-53, 1024)
logits = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-30, 30)


def failed(code: ItemErrorCode) -> CandidateResult:
    return CandidateResult(reward=None, tokens=1, error=ItemError(code=code, detail="why"))


@pytest.mark.parametrize(
    ("logit", "probability"),
    [(0.0, 0.5), (-0.0, 0.5), (LARGEST, 1.0), (-LARGEST, 0.0), (math.log(3), 0.75)],
)
def test_the_sigmoid_is_what_it_should_be(logit: float, probability: float) -> None:
    assert sigmoid(logit) == pytest.approx(probability, abs=1e-15)


@given(logits)
def test_a_sigmoid_is_a_probability_whatever_the_logit(logit: float) -> None:
    assert 0 <= sigmoid(logit) <= 1


@given(moderate)
def test_the_sigmoids_of_a_logit_and_its_opposite_sum_to_one(logit: float) -> None:
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1)


@given(st.lists(logits, min_size=2))
def test_the_sigmoid_keeps_the_order(values: list[float]) -> None:
    squashed = [sigmoid(value) for value in sorted(values)]
    assert all(low <= high for low, high in pairwise(squashed))


@given(st.lists(logits, min_size=1, max_size=8))
def test_a_softmax_sums_to_one_whatever_the_logits(values: list[float]) -> None:
    shares = softmax(values)
    assert all(0 <= share <= 1 for share in shares)
    assert math.fsum(shares) == pytest.approx(1)


@given(st.lists(moderate, min_size=1, max_size=8), moderate)
def test_a_softmax_does_not_mind_a_shift(values: list[float], shift: float) -> None:
    assert softmax([value + shift for value in values]) == pytest.approx(softmax(values))


@given(moderate, moderate)
def test_a_softmax_of_two_is_the_sigmoid_of_their_difference(first: float, second: float) -> None:
    assert softmax([first, second])[0] == pytest.approx(sigmoid(first - second))


def test_a_softmax_bears_a_very_negative_logit() -> None:
    # Less the number of largest magnitude, as text-embeddings-inference does it, exp overflows.
    assert softmax([-1e4, 0.0]) == [0.0, 1.0]


def test_one_logit_has_a_sigmoid_and_several_have_a_softmax() -> None:
    assert probabilities([0.0]) == [0.5]
    assert probabilities([0.0, 0.0]) == [0.5, 0.5]


@pytest.mark.parametrize("code", ["non_finite_reward", "out_of_memory", "judge_failed"])
def test_a_missing_reward_is_an_error_that_names_the_input(code: ItemErrorCode) -> None:
    with pytest.raises(NoReward, match=f"input 1: {code}: why"):
        rewards_of([CandidateResult(reward=0.0, tokens=1), failed(code)])


@pytest.mark.parametrize("code", ["no_rival", "no_reference"])
def test_a_reward_that_was_asked_for_wrongly_is_the_askers_error(code: ItemErrorCode) -> None:
    with pytest.raises(UnsupportedInput, match=code):
        rewards_of([failed(code)])


def test_an_input_above_a_limit_is_refused_with_its_length() -> None:
    results = [CandidateResult(reward=0.0, tokens=tokens) for tokens in (3, 4)]
    refuse_longer(results, limit=4, field="max_length")
    with pytest.raises(CandidateTooLong, match=r"max_length: input 1 has 4 tokens, limit 3"):
        refuse_longer(results, limit=3, field="max_length")


def test_inputs_are_one_or_several_texts_or_lists_of_ids() -> None:
    assert to_inputs("a", add_special_tokens=True) == (RawInput(text="a"),)
    assert to_inputs(["a", "b"], add_special_tokens=True) == (
        RawInput(text="a"),
        RawInput(text="b"),
    )
    assert to_inputs([1, 2], add_special_tokens=True) == (RawInput(ids=(1, 2)),)
    assert to_inputs([[1], [2]], add_special_tokens=True) == (
        RawInput(ids=(1,)),
        RawInput(ids=(2,)),
    )


def test_the_caller_says_whether_texts_get_special_tokens() -> None:
    assert to_inputs("a", add_special_tokens=False) == (
        RawInput(text="a", add_special_tokens=False),
    )


@pytest.mark.parametrize("roles", [[], ["assistant"], ["user", "assistant"]])
def test_a_response_needs_a_message_that_it_answers(roles: list[str]) -> None:
    messages = [ChatMessage.model_validate({"role": role, "content": "x"}) for role in roles]
    with pytest.raises(InvalidRequest, match="prompt: no user's message"):
        answered(messages, "Rest.", field="prompt")


def test_the_label_of_an_input_is_that_of_its_largest_number() -> None:
    result = CandidateResult(reward=1.0, tokens=1, parts={"good": 1.0, "long": 3.0})
    scored = RawScored((result,), Usage(tokens=1, computed_tokens=1), labels=((1.0, 3.0),))
    (found,) = classified(numbers_of_raw(scored), is_squashed=False)
    assert (found.label, found.probs, found.num_classes) == ("long", [1.0, 3.0], 2)


def test_labels_without_names_are_called_as_transformers_calls_them() -> None:
    result = CandidateResult(reward=1.0, tokens=1)
    scored = RawScored((result,), Usage(tokens=1, computed_tokens=1), labels=((1.0, 3.0),))
    assert numbers_of_raw(scored).labels == ("LABEL_0", "LABEL_1")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4))
def test_packed_numbers_are_float32_in_the_order_asked_for(row: list[float]) -> None:
    for order in ("<", ">"):
        content = base64.b64decode(packed(row, order=order))
        assert list(struct.unpack(f"{order}{len(row)}f", content)) == row
