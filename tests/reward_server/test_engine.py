from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, LlamaConfig
from transformers.models.auto import modeling_auto

from corpora.conversation import Conversation
from reward_server.config import RewardServerConfig
from reward_server.engine import SequenceClassificationScorer, plan_batches, resolve_dtype
from reward_server.errors import CandidateTooLong, ServerStartError
from reward_server.protocol import CandidateResult, ScoreGroup
from tests.reward_server.tiny import END, group, make_tokenizer, save_model

QUESTIONS = ["Why?", "What helps a stuffy nose?", "When should I see a doctor about a fever? " * 3]
ANSWERS = ["", "Rest.", "Saline rinses, steam and rest.", "See a doctor. " * 8, "Fever " * 20]


def load(folder: Path, **settings: Any) -> SequenceClassificationScorer:
    config = RewardServerConfig(model=str(folder), dtype=settings.pop("dtype", "float32"))
    return SequenceClassificationScorer.load(folder, config.model_copy(update=settings))


@pytest.fixture(scope="module")
def scorer(model_folder: Path) -> SequenceClassificationScorer:
    return load(model_folder)


def results(scorer: SequenceClassificationScorer, *groups: ScoreGroup) -> list[CandidateResult]:
    scored = scorer.score(groups, on_overflow="error")
    return [result for answered in scored.groups for result in answered.results]


def rewards(scorer: SequenceClassificationScorer, *groups: ScoreGroup) -> list[float]:
    values = [result.reward for result in results(scorer, *groups)]
    return [value for value in values if value is not None]


GROUPS = [ScoreGroup.of(q, Conversation.ask(q), ANSWERS) for q in QUESTIONS]


def test_a_reward_is_the_logit_of_the_plain_forward(
    scorer: SequenceClassificationScorer, model_folder: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, dtype=torch.float32)
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


@settings(max_examples=15, deadline=None)
@given(
    picked=st.lists(
        st.tuples(st.sampled_from(QUESTIONS), st.sampled_from(ANSWERS)), min_size=1, max_size=7
    ),
    budget=st.sampled_from([1, 64, 300, 4096]),
)
def test_neighbours_in_a_batch_do_not_matter(
    model_folder: Path, picked: list[tuple[str, str]], budget: int
) -> None:
    scorer = _cached(model_folder, budget)
    groups = [ScoreGroup.of("g", Conversation.ask(q), [a]) for q, a in picked]
    alone = [rewards(scorer, item)[0] for item in groups]
    assert rewards(scorer, *groups) == pytest.approx(alone, abs=1e-5)


_scorers: dict[int, SequenceClassificationScorer] = {}


def _cached(folder: Path, budget: int) -> SequenceClassificationScorer:
    if budget not in _scorers:
        _scorers[budget] = load(folder, max_batch_tokens=budget)
    return _scorers[budget]


def test_results_come_in_the_order_of_the_request(scorer: SequenceClassificationScorer) -> None:
    scored = scorer.score(GROUPS[::-1], on_overflow="error")
    assert [answered.id for answered in scored.groups] == QUESTIONS[::-1]
    assert rewards(scorer, *GROUPS[::-1])[:5] == pytest.approx(
        rewards(scorer, GROUPS[-1]), abs=1e-5
    )


def test_tokens_count_the_rendered_input(scorer: SequenceClassificationScorer) -> None:
    scored = scorer.score([group("q1", "Rest.")], on_overflow="error")
    messages = [
        {"role": "user", "content": "What helps a stuffy nose?"},
        {"role": "assistant", "content": "Rest."},
    ]
    expected = len(make_tokenizer().apply_chat_template(messages, return_dict=True)["input_ids"])
    assert scored.groups[0].results[0].tokens == expected
    assert scored.usage.tokens == scored.usage.computed_tokens == expected
    assert scored.padding_tokens == 0


def test_a_long_input_is_refused_before_anything_is_computed(model_folder: Path) -> None:
    scorer = load(model_folder, max_length=32)
    with pytest.raises(CandidateTooLong, match="limit 32"):
        scorer.score([group("q1", "Rest.", "Rest. " * 20)], on_overflow="error")


def test_a_cut_input_reports_how_much_was_cut(model_folder: Path) -> None:
    scorer = load(model_folder, max_length=32)
    asked = ScoreGroup.of("q1", Conversation.ask("My nose. " * 9), ["Rest."])
    (result,) = scorer.score([asked], on_overflow="truncate").groups[0].results
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


def test_bfloat16_gives_nearly_the_same_rewards(
    scorer: SequenceClassificationScorer, model_folder: Path
) -> None:
    rounded = load(model_folder, dtype="bfloat16")
    assert rewards(rounded, *GROUPS) == pytest.approx(rewards(scorer, *GROUPS), abs=0.3)
    assert rounded.info.identity.dtype == "bfloat16"
    assert rounded.info.fingerprint != scorer.info.fingerprint


def test_auto_is_bfloat16_on_a_gpu_and_float32_on_a_cpu() -> None:
    assert resolve_dtype("auto", "cuda") == "bfloat16"
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("bfloat16", "cpu") == "bfloat16"


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_keep_the_budget_and_lose_nothing(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert max(lengths[i] for i in batch) * len(batch) <= budget or len(batch) == 1
    longest_first = [lengths[index] for batch in batches for index in batch]
    assert longest_first == sorted(lengths, reverse=True)


def test_a_model_without_a_reward_head_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    save_other(tmp_path, LlamaConfig, modeling_auto.AutoModelForCausalLM)
    with pytest.raises(ServerStartError, match=r"lacks weights \(score\.weight\)"):
        load(tmp_path)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    save_other(tmp_path, BertConfig, AutoModelForSequenceClassification)
    with pytest.raises(ServerStartError, match="no head at its last token"):
        load(tmp_path)


def save_other(folder: Path, config: Any, auto: Any) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    made = config(vocab_size=320, num_hidden_layers=1, **sizes)
    made.num_labels = 1
    auto.from_config(made).save_pretrained(folder)


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer(), num_labels=2)
    with pytest.raises(ServerStartError, match="2 labels"):
        load(tmp_path)


def test_a_template_that_ends_with_the_pad_token_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer(pad=END))
    with pytest.raises(ServerStartError, match="scored position is ambiguous"):
        load(tmp_path)


def test_a_length_above_the_models_is_refused(model_folder: Path) -> None:
    with pytest.raises(ServerStartError, match="max_length: 512 is above the model's 256"):
        load(model_folder, max_length=512)
    assert load(model_folder).info.max_length == 256


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{}", "is not a reward model: "),
        ("model.safetensors", "cut off", "is not a reward model: "),
        ("tokenizer.json", "{}", "has no usable tokenizer: "),
        ("tokenizer.json", "cut off", "has no usable tokenizer: "),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    save_model(tmp_path, make_tokenizer())
    (tmp_path / file).write_text(content)
    with pytest.raises(ServerStartError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, make_tokenizer())
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ServerStartError, match="has no usable tokenizer"):
        load(tmp_path)
