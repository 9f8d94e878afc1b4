from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from corpora.conversation import Conversation
from reward_server.errors import CandidateTooLong, ServerStartError
from reward_server.local import LocalEngine, LocalScorer
from reward_server.protocol import CandidateResult, ScoreGroup
from reward_server.specs import TransformerSpec
from reward_server.tokens import TokenInput
from tests.reward_server.tiny import group, make_tokenizer, save_model

QUESTIONS = ["Why?", "What helps a stuffy nose?", "When should I see a doctor about a fever? " * 3]
ANSWERS = ["", "Rest.", "Saline rinses, steam and rest.", "See a doctor. " * 8, "Fever " * 20]
GROUPS = [ScoreGroup.of(q, Conversation.ask(q), ANSWERS) for q in QUESTIONS]


def load(folder: Path, **settings: Any) -> LocalScorer:
    return LocalScorer(
        folder, TransformerSpec(model=str(folder), **{"dtype": "float32", **settings})
    )


@cache
def cached(folder: Path, engine: str, budget: int | None = None) -> LocalScorer:
    return load(folder, engine=engine, max_batch_tokens=budget)


@cache
def cached_engine(folder: Path, budget: int | None = None) -> LocalEngine:
    spec = TransformerSpec(model=str(folder), dtype="float32", max_batch_tokens=budget)
    return LocalEngine.load(folder, spec)


@pytest.fixture(params=["packed", "padded"])
def scorer(request: pytest.FixtureRequest, model_folder: Path) -> LocalScorer:
    return cached(model_folder, request.param)


def results(scorer: LocalScorer, *groups: ScoreGroup) -> list[CandidateResult]:
    return [result for answered in scorer.score(groups) for result in answered.results]


def rewards(scorer: LocalScorer, *groups: ScoreGroup) -> list[float]:
    values = [result.reward for result in results(scorer, *groups)]
    return [value for value in values if value is not None]


def test_a_reward_is_the_logit_of_the_plain_forward(
    scorer: LocalScorer, model_folder: Path
) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        model_folder, dtype=torch.float32
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    expected = []
    for question in QUESTIONS:
        for answer in ANSWERS:
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                expected.append(model(**ids).logits.item())
    assert rewards(scorer, *GROUPS) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1  # or the comparison would say nothing


@pytest.mark.parametrize("engine", ["packed", "padded"])
@settings(max_examples=12)
@given(
    picked=st.lists(
        st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(ANSWERS)), min_size=1, max_size=7
    ),
    budget=st.sampled_from([1, 64, 300, 4096]),
)
def test_neighbours_in_a_batch_do_not_matter(
    engine: str, model_folder: Path, picked: list[tuple[str, str]], budget: int
) -> None:
    scorer = cached(model_folder, engine, budget)
    groups = [ScoreGroup.of("g", Conversation.ask(q), [a]) for q, a in picked]
    alone = [rewards(scorer, item)[0] for item in groups]
    assert rewards(scorer, *groups) == pytest.approx(alone, abs=1e-5)


def test_results_come_in_the_order_of_the_request(scorer: LocalScorer) -> None:
    scored = scorer.score(GROUPS[::-1])
    assert [answered.id for answered in scored] == QUESTIONS[::-1]
    assert rewards(scorer, *GROUPS[::-1])[:5] == pytest.approx(
        rewards(scorer, GROUPS[-1]), abs=1e-5
    )


def test_tokens_count_the_rendered_input(scorer: LocalScorer) -> None:
    (result,) = results(scorer, group("q1", "Rest."))
    messages = [
        {"role": "user", "content": "What helps a stuffy nose?"},
        {"role": "assistant", "content": "Rest."},
    ]
    expected = len(make_tokenizer().apply_chat_template(messages, return_dict=True)["input_ids"])
    assert result.tokens == expected


def test_nothing_is_scored_to_nothing(scorer: LocalScorer) -> None:
    assert scorer.score([]) == []


def test_a_long_input_is_refused_before_anything_is_computed(model_folder: Path) -> None:
    scorer = load(model_folder, max_length=32)
    with pytest.raises(CandidateTooLong, match="limit 32"):
        scorer.score([group("q1", "Rest.", "Rest. " * 20)])


def test_a_cut_input_reports_how_much_was_cut(model_folder: Path) -> None:
    scorer = load(model_folder, max_length=32)
    asked = ScoreGroup.of("q1", Conversation.ask("My nose. " * 9), ["Rest."])
    (result,) = scorer.score([asked], on_overflow="truncate")[0].results
    assert result.tokens == 32
    assert result.truncated_tokens > 0


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_an_error_of_its_item(poison: float, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    model = save_model(tmp_path, tokenizer)
    sick = tokenizer.encode("Q", add_special_tokens=False)[0]
    model.get_input_embeddings().weight.data[sick] = poison
    model.save_pretrained(tmp_path)
    sound, failed = results(load(tmp_path), group("q1", "Rest.", "Q"))
    assert sound.reward is not None
    assert failed.reward is None
    assert failed.error is not None
    assert failed.error.code == "non_finite_reward"


def test_bfloat16_gives_nearly_the_same_rewards(scorer: LocalScorer, model_folder: Path) -> None:
    rounded = load(model_folder, dtype="bfloat16")
    assert rewards(rounded, *GROUPS) == pytest.approx(rewards(scorer, *GROUPS), abs=0.3)
    assert rounded.info.identity.dtype == "bfloat16"
    assert rounded.info.fingerprint != scorer.info.fingerprint


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer(), num_labels=2)
    with pytest.raises(ServerStartError, match=r"2 labels .* kind = \"multi_objective\""):
        load(tmp_path)


def test_an_engine_gives_all_labels_of_plain_ids(tmp_path: Path) -> None:
    model = save_model(tmp_path, make_tokenizer(), num_labels=3).eval()
    engine = LocalEngine.load(tmp_path, TransformerSpec(model="x", dtype="float32"))
    ids = [(7, 8, 9), (10, 11)]
    with torch.no_grad():
        expected = [tuple(model(torch.tensor([each])).logits[0].tolist()) for each in ids]
    assert engine.name == "packed"
    for found, wanted in zip(engine.score_ids(ids), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert engine.score_ids(ids) == engine.score_inputs([TokenInput(each) for each in ids])


def test_an_engine_may_be_put_around_a_model_that_is_built(model_folder: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(model_folder)
    ids = [(7, 8, 9), (10, 11)]
    expected = cached_engine(model_folder).score_ids(ids)
    for engine in ("packed", "padded", "packed"):
        spec = TransformerSpec(model="x", engine=engine)
        around = LocalEngine.around(model, spec)
        assert around.name == engine
        assert [each[0] for each in around.score_ids(ids)] == pytest.approx(
            [each[0] for each in expected], abs=1e-5
        )


@settings(max_examples=10)
@given(st.lists(st.integers(1, 40), max_size=12), st.sampled_from([1, 30, 500]))
def test_a_budget_changes_no_reward(model_folder: Path, lengths: list[int], budget: int) -> None:
    ids = [tuple(range(10, 10 + length)) for length in lengths]
    small = cached_engine(model_folder, budget).score_ids(ids)
    large = cached_engine(model_folder).score_ids(ids)
    assert [each[0] for each in small] == pytest.approx([each[0] for each in large], abs=1e-5)


def test_equal_candidates_have_equal_rewards_wherever_batches_end(model_folder: Path) -> None:
    texts = ["Rest. " * n for n in (1, 2, 3, 4)]
    twice = ScoreGroup.of("q", Conversation.ask("Why?"), [*texts, *texts])
    for budget in (1, 20, 40, 60, 80):
        [scored] = cached(model_folder, "packed", budget).score([twice])
        rewards = [result.reward for result in scored.results]
        assert rewards[:4] == rewards[4:]
