from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from reward_server.cache import RewardCache
from reward_server.errors import CandidateTooLong, Overloaded, QuotaExceeded, ServerStartError
from reward_server.loading import Resources, load_scorer
from reward_server.protocol import CandidateResult, ItemError
from reward_server.scorer import Call, RawScorer, Scored
from reward_server.scorers.implicit import ImplicitScorer
from reward_server.specs import ImplicitSpec
from tests.reward_server.engine.small import save_causal
from tests.reward_server.tiny import group, make_tokenizer

pytestmark = pytest.mark.anyio

TOKENIZER = make_tokenizer()
ANSWERS = ("Rest.", "Steam helps.", "")
GROUPS = [group("q1", *ANSWERS)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    save_causal(folder, TOKENIZER)
    return folder


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference after some training, as it were."""
    folder = tmp_path_factory.mktemp("policy")
    model = save_causal(folder, TOKENIZER)
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(2)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], init_lora_weights=False
    )
    model = AutoModelForCausalLM.from_pretrained(reference)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def load(model: Path, *, resources: Resources | None = None, **settings: Any) -> ImplicitScorer:
    spec = ImplicitSpec(kind="implicit", model=str(model), **{"dtype": "float32", **settings})
    shared = Resources(cache=RewardCache(0), max_pending_tokens=10_000, bulk_patience_seconds=1.0)
    scorer = load_scorer("ip", spec, resources or shared, {})
    assert isinstance(scorer, ImplicitScorer)
    return scorer


@asynccontextmanager
async def served(model: Path, **settings: Any) -> AsyncIterator[ImplicitScorer]:
    scorer = load(model, **settings)
    scorer.start()
    yield scorer
    await scorer.aclose()


def results(scored: Scored) -> tuple[CandidateResult, ...]:
    return scored.groups[0].results


def rewards(scored: Scored) -> list[float]:
    return [each.reward for each in results(scored) if each.reward is not None]


def log_probabilities(model: Any) -> list[float]:
    """Of the answers and the mark that ends them, given the question; from the whole model."""
    question = [{"role": "user", "content": "What helps a stuffy nose?"}]
    prompt = TOKENIZER.apply_chat_template(question, add_generation_prompt=True, return_dict=True)
    first = len(prompt["input_ids"])
    found = []
    for answer in ANSWERS:
        ids = TOKENIZER.apply_chat_template(
            [*question, {"role": "assistant", "content": answer}], return_dict=True
        )["input_ids"]
        with torch.no_grad():
            chosen = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        found.append(float(sum(chosen[at - 1, ids[at]] for at in range(first, len(ids)))))
    return found


def plain(folder: Path) -> list[float]:
    return log_probabilities(AutoModelForCausalLM.from_pretrained(folder))


@pytest.mark.parametrize("engine", ["packed", "padded"])
async def test_a_reward_is_beta_times_the_log_ratio(
    engine: str, policy: Path, reference: Path
) -> None:
    async with served(policy, reference=str(reference), beta=0.5, engine=engine) as scorer:
        scored = await scorer.score(GROUPS, Call())
    assert scored.engine == engine
    of_policy, of_reference = plain(policy), plain(reference)
    expected = [0.5 * (a - b) for a, b in zip(of_policy, of_reference, strict=True)]
    assert rewards(scored) == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 0.1
    parts = [each.parts or {} for each in results(scored)]
    assert [p["log_probability"] for p in parts] == pytest.approx(of_policy, abs=1e-3)
    assert [p["reference_log_probability"] for p in parts] == pytest.approx(of_reference, abs=1e-3)


async def test_a_policy_that_is_its_reference_rewards_nothing(reference: Path) -> None:
    async with served(reference, reference=str(reference)) as scorer:
        assert rewards(await scorer.score(GROUPS, Call())) == [0.0, 0.0, 0.0]


async def test_an_adapter_is_a_policy_whose_reference_is_its_base(
    reference: Path, adapter: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(reference)
    expected = [
        0.1 * (a - b)
        for a, b in zip(
            log_probabilities(peft.PeftModel.from_pretrained(base, str(adapter))),
            plain(reference),
            strict=True,
        )
    ]
    async with served(reference, adapter=str(adapter)) as scorer:
        assert rewards(await scorer.score(GROUPS, Call())) == pytest.approx(expected, abs=1e-3)
    assert scorer.info.identity.adapter is not None


async def test_work_is_counted_on_both_models(policy: Path, reference: Path) -> None:
    async with served(policy, reference=str(reference), engine="padded") as scorer:
        scored = await scorer.score(GROUPS, Call())
    tokens = sum(each.tokens for each in results(scored))
    assert (scored.usage.tokens, scored.usage.computed_tokens) == (tokens, 2 * tokens)


async def test_tokens_are_told_once_and_before_anything_is_computed(
    policy: Path, reference: Path
) -> None:
    told: list[int] = []

    def refuse(tokens: int) -> None:
        told.append(tokens)
        raise QuotaExceeded("no tokens left")

    async with served(policy, reference=str(reference)) as scorer:
        with pytest.raises(QuotaExceeded):
            await scorer.score(GROUPS, Call(on_tokens=refuse))
        assert [pipeline.batcher.tally.batches for pipeline in scorer.pipelines] == [0, 0]
        scored = await scorer.score(GROUPS, Call(on_tokens=told.append))
    assert told == [scored.usage.tokens] * 2


async def test_both_models_answer_from_the_cache(policy: Path, reference: Path) -> None:
    resources = Resources(
        cache=RewardCache(100), max_pending_tokens=10_000, bulk_patience_seconds=1.0
    )
    async with served(policy, reference=str(reference), resources=resources) as scorer:
        first = await scorer.score(GROUPS, Call())
        again = await scorer.score(GROUPS, Call())
    assert rewards(again) == rewards(first)
    assert (again.usage.computed_tokens, again.usage.cached_candidates) == (0, 3)


@pytest.mark.parametrize("which", [0, 1])
async def test_what_one_model_cannot_compute_is_an_error(
    which: int, policy: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ItemError(code="out_of_memory", detail="too large")
    async with served(policy, reference=str(reference)) as scorer:
        pipeline = scorer.pipelines[which]
        compute = pipeline.compute

        async def failing(*arguments: Any) -> Any:
            outcomes = await compute(*arguments)
            return replace(outcomes, labels=[error, *outcomes.labels[1:]])

        monkeypatch.setattr(pipeline, "compute", failing)
        failed, *sound = results(await scorer.score(GROUPS, Call()))
    assert (failed.reward, failed.error) == (None, error)
    assert all(each.error is None for each in sound)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_refusal_of_one_model_is_the_refusal_of_the_request(
    which: int, policy: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*arguments: Any) -> Any:
        raise Overloaded("too much work waits", retry_after=7)

    async with served(policy, reference=str(reference)) as scorer:
        with monkeypatch.context() as patch:
            patch.setattr(scorer.pipelines[which], "compute", refuse)
            with pytest.raises(Overloaded) as refused:
                await scorer.score(GROUPS, Call())
        assert refused.value.retry_after == 7
        assert len(rewards(await scorer.score(GROUPS, Call()))) == 3
        assert all(pipeline.batcher.pending_tokens == 0 for pipeline in scorer.pipelines)


async def test_a_long_candidate_is_refused(policy: Path, reference: Path) -> None:
    async with served(policy, reference=str(reference), max_length=20) as scorer:
        with pytest.raises(CandidateTooLong):
            await scorer.score([group("q1", "Rest. " * 30)], Call())


async def test_a_scorer_is_ready_when_both_models_are(policy: Path, reference: Path) -> None:
    scorer = load(policy, reference=str(reference))
    scorer.pipelines[0].start()
    states = [scorer.is_ready]
    scorer.pipelines[1].start()
    states.append(scorer.is_ready)
    await scorer.aclose()
    assert [*states, scorer.is_ready] == [False, True, False]
    assert not isinstance(scorer, RawScorer)


def test_policy_reference_and_beta_decide_the_fingerprint(policy: Path, reference: Path) -> None:
    scorers = [
        load(policy, reference=str(reference)),
        load(policy, reference=str(reference), beta=0.2),
        load(policy, reference=str(policy)),
        load(reference, reference=str(policy)),
    ]
    assert len({scorer.info.fingerprint for scorer in scorers}) == 4
    assert scorers[0].info.identity.kind == "implicit"


def test_a_policy_without_a_reference_is_refused(policy: Path) -> None:
    with pytest.raises(ServerStartError, match="reference: missing; name the reference model, or"):
        load(policy)


def test_a_reference_that_reads_other_tokens_is_refused(policy: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<|new|>"])
    save_causal(tmp_path, tokenizer)
    with pytest.raises(ServerStartError, match=r"reference: .* has another vocabulary than"):
        load(policy, reference=str(tmp_path))


def test_a_reference_with_a_template_of_its_own_is_taken(policy: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    save_causal(tmp_path, tokenizer)
    assert load(policy, reference=str(tmp_path)).info.identity.kind == "implicit"


def test_a_reference_that_reads_less_is_refused(policy: Path, tmp_path: Path) -> None:
    save_causal(tmp_path, TOKENIZER, max_position_embeddings=64)
    with pytest.raises(ServerStartError, match=r"reads 64 tokens and the policy 128; set max_len"):
        load(policy, reference=str(tmp_path))
    assert load(policy, reference=str(tmp_path), max_length=64).info.max_length == 64


def test_beta_is_part_of_what_is_told(policy: Path, reference: Path) -> None:
    info = load(policy, reference=str(reference), beta=0.3).info
    assert json.loads(info.model_dump_json())["identity"]["parameters"]["beta"] == 0.3
