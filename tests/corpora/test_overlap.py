import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.overlap import common_subsequence, rouge_l, token_f1, tokens

words = st.lists(st.sampled_from(["fever", "cough", "rash", "pain", "chills"]), max_size=12)
texts = words.map(" ".join)


def longest_by_definition(left: list[str], right: list[str]) -> int:
    """The textbook recurrence, cell by cell."""
    rows = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


@given(words, words)
def test_the_bit_parallel_subsequence_has_the_length_of_the_textbook_one(
    left: list[str], right: list[str]
) -> None:
    assert common_subsequence(left, right) == longest_by_definition(left, right)


@given(st.text(), st.text())
def test_both_measures_are_symmetric_and_stay_between_zero_and_one(left: str, right: str) -> None:
    for measure in (token_f1, rouge_l):
        assert 0 <= measure(left, right) <= 1
        assert measure(left, right) == measure(right, left)


@given(st.text(), st.text())
def test_order_can_only_cost(left: str, right: str) -> None:
    assert rouge_l(left, right) <= token_f1(left, right)


@given(texts.filter(bool), texts)
def test_rouge_l_is_one_exactly_for_equal_tokens(left: str, right: str) -> None:
    assert (rouge_l(left, right) == 1) == (tokens(left) == tokens(right))
    assert rouge_l(left, left) == 1


@given(texts.filter(bool), texts)
def test_token_f1_is_one_exactly_for_equal_bags(left: str, right: str) -> None:
    assert (token_f1(left, right) == 1) == (sorted(tokens(left)) == sorted(tokens(right)))


@given(texts, st.lists(st.sampled_from(["femur", "tibia"])).map(" ".join))
def test_disjoint_texts_score_zero(left: str, right: str) -> None:
    assert rouge_l(left, right) == token_f1(left, right) == 0


def test_an_answer_without_words_never_matches() -> None:
    assert rouge_l("", "") == token_f1("…", "?!") == 0


def test_case_and_punctuation_do_not_count() -> None:
    assert tokens("X-rays: 2.5 mg, Ménière’s_") == ["x", "rays", "2", "5", "mg", "ménière", "s"]
    assert rouge_l("Fever, cough.", "fever COUGH") == 1


@pytest.mark.parametrize(
    ("candidate", "f1", "rouge"),
    [
        pytest.param("police kill the gunman", 3 / 4, 3 / 4, id="one word changed"),
        pytest.param("the gunman kill police", 3 / 4, 2 / 4, id="order changed too"),
        pytest.param("police", 2 / 5, 2 / 5, id="short"),
    ],
)
def test_word_order_counts_as_in_the_paper(candidate: str, f1: float, rouge: float) -> None:
    assert token_f1(candidate, "police killed the gunman") == f1
    assert rouge_l(candidate, "police killed the gunman") == rouge
