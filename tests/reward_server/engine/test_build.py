from __future__ import annotations

import random
import re
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpora.conversation import Conversation
from reward_server.engine.build import (
    Built,
    Source,
    build_chooser,
    build_classifier,
    build_likelihood,
    with_parameters,
)
from reward_server.engine.fused import kernels_version, load_kernels
from reward_server.errors import ServerStartError
from reward_server.local import LocalEngine
from reward_server.protocol import ChatMessage, Kind, ScoreGroup
from reward_server.specs import DTypeChoice, TransformerSpec
from reward_server.tokens import TokenInput
from tests.reward_server.engine.small import (
    firsts,
    make_classifier,
    make_pair_tokenizer,
    plain_rewards,
    save_causal,
    save_classifier,
    some_ids,
    token_inputs,
)
from tests.reward_server.tiny import END, TEMPLATE, group, make_tokenizer

TOKENIZER = make_tokenizer()


def spec_of(folder: Path, **settings: Any) -> TransformerSpec:
    return TransformerSpec(model=str(folder), **{"dtype": "float32", **settings})


def classifier(
    folder: Path,
    *,
    adapter: Path | None = None,
    kind: Kind = "sequence_classification",
    **settings: Any,
) -> Built:
    return build_classifier("rm", Source(folder, adapter), spec_of(folder, **settings), kind)


def scored(built: Built, *groups: ScoreGroup) -> list[float]:
    renderer = built.new_renderer()
    inputs = [item for each in groups for item in renderer.render(each, on_overflow="error")]
    local = LocalEngine(built.engine, batch_tokens=built.batch_tokens)
    return firsts(local.score_inputs(inputs))


def test_a_built_model_says_what_it_is(reward_model: Path) -> None:
    info = classifier(reward_model).info
    assert info.name == "rm"
    assert re.fullmatch("[0-9a-f]{16}", info.fingerprint)
    assert (info.engine, info.engine_reason) == ("packed", None)
    assert (info.max_length, info.device, info.is_deterministic) == (128, "cpu", False)
    fused = kernels_version() if load_kernels() is not None else {}
    assert set(info.software) == {"medpref", "torch", "transformers", *fused}
    head = info.identity.head
    assert head is not None
    assert (head.architecture, head.num_labels, head.pooling) == (
        "LlamaForSequenceClassification",
        1,
        "last_token",
    )


def test_the_commit_on_the_hub_is_told(reward_model: Path) -> None:
    source = Source(reward_model, None, "c0ffee")
    built = build_classifier("rm", source, spec_of(reward_model), "sequence_classification")
    assert built.info.revision == "c0ffee"


def test_what_decides_a_reward_decides_the_fingerprint(reward_model: Path, tmp_path: Path) -> None:
    model = make_classifier("llama", vocab_size=len(TOKENIZER))
    config = peft.LoraConfig(target_modules=["q_proj"])
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    built = [
        classifier(reward_model),
        classifier(reward_model, dtype="bfloat16"),
        classifier(reward_model, kind="multi_objective"),
        classifier(reward_model, adapter=tmp_path),
    ]
    fingerprints = [each.info.fingerprint for each in built]
    fingerprints.append(with_parameters(built[0].info, {"beta": 0.1}).fingerprint)
    assert len(set(fingerprints)) == 5


def test_the_tokenizer_of_an_adapter_decides_the_fingerprint(
    reward_model: Path, tmp_path: Path
) -> None:
    model = make_classifier("llama", vocab_size=len(TOKENIZER))
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    bare = classifier(reward_model, adapter=tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template += "{# as the adapter was trained #}"
    tokenizer.save_pretrained(tmp_path)
    adapted = classifier(reward_model, adapter=tmp_path)
    assert adapted.info.fingerprint != bare.info.fingerprint


def test_how_a_reward_is_computed_does_not_change_the_fingerprint(reward_model: Path) -> None:
    built = [
        classifier(reward_model),
        classifier(reward_model, engine="padded"),
        classifier(reward_model, deterministic=True, max_length=64),
    ]
    assert len({each.info.fingerprint for each in built}) == 1


def test_every_thread_gets_a_renderer_of_its_own(reward_model: Path) -> None:
    built = classifier(reward_model)
    first, second = built.new_renderer(), built.new_renderer()
    assert first is not second
    assert first.render(group(), on_overflow="error") == second.render(group(), on_overflow="error")


def test_the_names_of_the_labels_are_the_models_in_the_order_of_the_head(tmp_path: Path) -> None:
    model = make_classifier("llama", vocab_size=len(TOKENIZER))
    model.config.id2label = {1: "safety", 0: "help"}
    model.num_labels = model.config.num_labels
    model.score = torch.nn.Linear(model.config.hidden_size, 2, bias=False)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    built = classifier(tmp_path, kind="multi_objective")
    assert built.labels == ("help", "safety")
    assert built.info.identity.head is not None
    assert built.info.identity.head.num_labels == 2


def test_a_template_that_ends_with_the_pad_token_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, make_tokenizer(pad=END))
    with pytest.raises(ServerStartError, match="scored position is ambiguous"):
        classifier(tmp_path)


def test_a_decoder_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, make_tokenizer(None))
    with pytest.raises(ServerStartError, match="no chat template"):
        classifier(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_deterministic_reward_is_the_same_to_the_last_bit(
    dtype: DTypeChoice, reward_model: Path
) -> None:
    built = classifier(reward_model, deterministic=True, dtype=dtype)
    assert built.info.is_deterministic
    assert (built.info.engine, built.batch_tokens) == ("padded", 1)
    chance = random.Random(1)
    shared = some_ids(chance, 40)
    inputs = token_inputs([shared + some_ids(chance, chance.randint(1, 60)) for _ in range(12)])
    alone = [built.engine.forward([item])[0] for item in inputs]
    for _ in range(3):
        assert built.engine.forward(inputs) == alone
        order = chance.sample(range(len(inputs)), len(inputs))
        assert built.engine.forward([inputs[i] for i in order]) == [alone[i] for i in order]
    again = classifier(reward_model, deterministic=True, dtype=dtype)
    assert again.engine.forward(inputs[::-1]) == alone[::-1]


def test_a_deterministic_model_is_not_packed(reward_model: Path) -> None:
    with pytest.raises(ServerStartError, match="deterministic: not with engine packed"):
        classifier(reward_model, deterministic=True, engine="packed")


ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {"bos_token_id": None, "eos_token_id": None},
    "electra": {"bos_token_id": None, "eos_token_id": None},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"local_attention": 16, "cls_token_id": 1, "sep_token_id": 2},
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("model_type", ENCODERS)
def test_an_encoder_gives_the_logits_of_its_own_tokenizer_and_head(
    model_type: str, tmp_path: Path
) -> None:
    tokenizer = make_pair_tokenizer()
    model = save_classifier(tmp_path, tokenizer, model_type, **ENCODERS[model_type])
    built = classifier(tmp_path)
    answers = ["", "Rest.", "Saline rinses, steam and rest help a stuffy nose."]
    question = "What helps a stuffy nose?"
    expected = []
    for answer in answers:
        encoding = tokenizer([question], [answer], return_tensors="pt")
        if getattr(model.config, "type_vocab_size", 0) < 2:
            encoding.pop("token_type_ids")
        with torch.inference_mode():
            expected.append(model(**encoding).logits.item())
    asked = ScoreGroup.of("q1", Conversation.ask(question), answers)
    assert scored(built, asked) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-3
    assert built.info.engine == "padded"
    assert built.info.identity.head is not None
    assert built.info.identity.head.pooling == "own"


def test_an_encoder_cannot_be_packed(tmp_path: Path) -> None:
    save_classifier(tmp_path, make_pair_tokenizer(), "bert")
    with pytest.raises(ServerStartError, match="engine: BertForSequenceClassification cannot be"):
        classifier(tmp_path, engine="packed")


def test_a_deterministic_encoder_computes_its_inputs_alone(tmp_path: Path) -> None:
    save_classifier(tmp_path, make_pair_tokenizer(), "bert")
    built = classifier(tmp_path, deterministic=True)
    inputs = [TokenInput((1, *range(4, 4 + count), 2), 2) for count in (3, 9, 20)]
    alone = [built.engine.forward([item])[0] for item in inputs]
    assert built.engine.forward(inputs) == alone


def chooser(folder: Path, choices: tuple[str, str] = ("A", "B"), **settings: Any) -> Built:
    return build_chooser("pm", Source(folder), spec_of(folder, **settings), choices)


def test_a_chooser_gives_the_logits_of_its_choices(language_model: Path) -> None:
    built = chooser(language_model)
    prompt = built.new_renderer().render_prompt([ChatMessage(role="user", content="A or B?")])
    (found,) = built.engine.forward([prompt])
    model: Any = AutoModelForCausalLM.from_pretrained(language_model)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt.ids])).logits[0, -1]
    tokens = TOKENIZER.convert_tokens_to_ids(["A", "B"])
    assert found == pytest.approx(tuple(logits[tokens].tolist()), abs=1e-4)
    assert TOKENIZER.decode(prompt.ids).endswith("<|assistant|>")
    assert built.info.engine == "packed"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (("A", "nose help"), r"choices: 'nose help' is \d tokens of this model"),
        (("", "B"), "choices: '' is 0 tokens of this model"),
        (("A", "A"), "are the same token of this model; name two"),
    ],
)
def test_choices_that_cannot_be_told_are_refused(
    choices: tuple[str, str], message: str, language_model: Path
) -> None:
    with pytest.raises(ServerStartError, match=message):
        chooser(language_model, choices)


@pytest.mark.parametrize("engine", ["packed", "padded"])
def test_a_likelihood_is_the_log_probability_of_the_candidate(
    engine: str, language_model: Path
) -> None:
    spec = spec_of(language_model, engine=engine)
    built = build_likelihood("pm", Source(language_model), spec)
    assert built.info.engine == engine
    model: Any = AutoModelForCausalLM.from_pretrained(language_model)
    tokenizer: Any = AutoTokenizer.from_pretrained(language_model)
    question = [{"role": "user", "content": "What helps a stuffy nose?"}]
    render = partial(tokenizer.apply_chat_template, return_dict=True)
    prompt = render(question, add_generation_prompt=True)["input_ids"]
    expected = []
    for answer in ("Rest.", "Steam helps."):
        ids = render([*question, {"role": "assistant", "content": answer}])["input_ids"]
        with torch.inference_mode():
            chosen = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected.append(
            float(sum(chosen[place - 1, ids[place]] for place in range(len(prompt), len(ids))))
        )
    assert scored(built, group()) == pytest.approx(expected, abs=1e-3)


def test_a_bias_of_the_output_embeddings_counts(tmp_path: Path) -> None:
    model = save_causal(tmp_path, TOKENIZER, "phi")
    model.lm_head.bias.data.normal_(std=3.0)
    model.save_pretrained(tmp_path)
    built = build_likelihood("pm", Source(tmp_path), spec_of(tmp_path))
    (item, _) = built.new_renderer().render(group(), on_overflow="error")
    with torch.inference_mode():
        chosen = model(torch.tensor([item.ids])).logits[0].double().log_softmax(-1)
    expected = sum(chosen[at - 1, item.ids[at]] for at in range(item.start, len(item.ids)))
    assert built.engine.forward([item])[0][0] == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("build", [build_likelihood, partial(build_chooser, choices=("A", "B"))])
def test_logits_that_are_scaled_behind_the_embeddings_are_refused(
    build: Any, tmp_path: Path
) -> None:
    save_causal(tmp_path, TOKENIZER, "granite", logits_scaling=8.0)
    with pytest.raises(ServerStartError, match="GraniteForCausalLM scales its logits"):
        build("pm", Source(tmp_path), spec_of(tmp_path))


def test_a_likelihood_may_be_deterministic(language_model: Path) -> None:
    spec = spec_of(language_model, deterministic=True)
    built = build_likelihood("pm", Source(language_model), spec)
    items = built.new_renderer().render(group(), on_overflow="error")
    alone = [built.engine.forward([item])[0] for item in items]
    assert built.engine.forward(items) == alone


def test_rewards_are_those_of_the_plain_model_whatever_the_engine(reward_model: Path) -> None:
    plain = make_classifier("llama", vocab_size=len(TOKENIZER), pad_token_id=TOKENIZER.pad_token_id)
    groups = [group(), group("q2", "See a doctor.", "Steam helps.", "")]
    built = classifier(reward_model)
    renderer = built.new_renderer()
    ids = [i.ids for each in groups for i in renderer.render(each, on_overflow="error")]
    expected = plain_rewards(plain, ids)
    assert scored(built, *groups) == pytest.approx(expected, abs=1e-4)
    assert scored(classifier(reward_model, engine="padded"), *groups) == pytest.approx(
        expected, abs=1e-4
    )


def test_the_template_is_part_of_the_fingerprint(reward_model: Path, tmp_path: Path) -> None:
    save_classifier(tmp_path, make_tokenizer(TEMPLATE + " "))
    fingerprints = {classifier(each).info.fingerprint for each in (reward_model, tmp_path)}
    assert len(fingerprints) == 2
