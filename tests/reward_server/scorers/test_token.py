from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpora.conversation import Conversation
from reward_server.cache import RewardCache
from reward_server.errors import CandidateTooLong, QuotaExceeded, ServerStartError
from reward_server.loading import Resources, load_scorer
from reward_server.local import LocalScorer
from reward_server.protocol import Head, Identity, ModelInfo, ScoreGroup
from reward_server.scorer import Call, RawInput, RawScored, RawScorer, Scored, Scorer
from reward_server.scorers.sequence_classification import check_one_label
from reward_server.scorers.token import (
    Reading,
    broken,
    characters_of,
    finite,
    result,
    unshared_characters_of,
)
from reward_server.specs import SequenceClassificationSpec
from reward_server.tokens import TokenInput
from tests.reward_server.tiny import group, make_tokenizer, save_model

pytestmark = pytest.mark.anyio

TOKENIZER = make_tokenizer()
GROUPS = [group("q1", "Rest.", "Steam helps.", "Rest."), group("q2", "See a doctor.")]


def resources(**changes: Any) -> Resources:
    chosen = Resources(cache=RewardCache(100), max_pending_tokens=10_000, bulk_patience_seconds=1.0)
    return replace(chosen, **changes)


def load(folder: Path, shared: Resources | None = None, **settings: Any) -> Scorer:
    chosen = {"model": str(folder), "dtype": "float32", **settings}
    return load_scorer("rm", SequenceClassificationSpec(**chosen), shared or resources(), {})


@pytest.fixture
async def scorer(model_folder: Path) -> AsyncIterator[Scorer]:
    scorer = load(model_folder)
    scorer.start()
    yield scorer
    await scorer.aclose()


def rewards(scored: Scored) -> list[float | None]:
    return [each.reward for answered in scored.groups for each in answered.results]


async def test_rewards_are_those_of_the_model_in_this_process(
    scorer: Scorer, model_folder: Path
) -> None:
    spec = SequenceClassificationSpec(model=str(model_folder), dtype="float32")
    expected = LocalScorer(model_folder, spec).score(GROUPS)
    scored = await scorer.score(GROUPS, Call())
    assert [each.id for each in scored.groups] == ["q1", "q2"]
    assert rewards(scored) == pytest.approx(
        [each.reward for answered in expected for each in answered.results], abs=1e-5
    )
    assert scored.engine == "packed"
    assert set(scored.seconds) == {"render", "wait", "forward"}


async def test_usage_says_what_was_scored_computed_and_known(scorer: Scorer) -> None:
    first = await scorer.score(GROUPS, Call())
    lengths = [each.tokens for answered in first.groups for each in answered.results]
    assert first.usage.tokens == sum(lengths)
    assert first.usage.computed_tokens < sum(lengths)  # the conversation once, the twin not at all
    assert first.usage.cached_candidates == 0
    again = await scorer.score(GROUPS, Call())
    assert rewards(again) == rewards(first)
    assert (again.usage.tokens, again.usage.computed_tokens) == (sum(lengths), 0)
    assert again.usage.cached_candidates == 4


async def test_a_long_candidate_is_refused_before_tokens_are_charged(model_folder: Path) -> None:
    charged: list[int] = []
    scorer = load(model_folder, max_length=32)
    scorer.start()
    with pytest.raises(CandidateTooLong):
        await scorer.score([group("q1", "Rest. " * 30)], Call(on_tokens=charged.append))
    assert charged == []
    long = ScoreGroup.of("q1", Conversation.ask("My nose. " * 9), ["Rest."])
    cut = Call(on_overflow="truncate", on_tokens=charged.append)
    (answered,) = (await scorer.score([long], cut)).groups
    assert answered.results[0].tokens == 32
    assert answered.results[0].truncated_tokens > 0
    assert charged == [32]
    await scorer.aclose()


async def test_what_the_callback_for_tokens_raises_ends_the_request(scorer: Scorer) -> None:
    def refuse(tokens: int) -> None:
        raise QuotaExceeded("no tokens left")

    with pytest.raises(QuotaExceeded):
        await scorer.score(GROUPS, Call(on_tokens=refuse))
    assert None not in rewards(await scorer.score(GROUPS, Call()))


async def raw(scorer: Scorer, *inputs: RawInput) -> RawScored:
    assert isinstance(scorer, RawScorer)
    return await scorer.score_raw(inputs, Call())


async def test_raw_inputs_are_scored_as_they_come(scorer: Scorer) -> None:
    scored = await scorer.score(GROUPS[1:], Call())
    messages = [
        {"role": "user", "content": "What helps a stuffy nose?"},
        {"role": "assistant", "content": "See a doctor."},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False)
    ids = tuple(TOKENIZER(text)["input_ids"])
    found = await raw(scorer, RawInput(text=text), RawInput(ids=ids), RawInput(ids=ids[:5]))
    assert [each.reward for each in found.results[:2]] == rewards(scored) * 2
    assert found.labels[0] == (found.results[0].reward,)
    assert found.usage.tokens == 2 * len(ids) + 5
    assert found.usage.cached_candidates == 2
    assert found.engine == "packed"


@pytest.fixture
async def sick(tmp_path: Path) -> AsyncIterator[Scorer]:
    """A model that gives NaN for whatever holds a Q."""
    model = save_model(tmp_path, TOKENIZER)
    token = TOKENIZER.encode("Q", add_special_tokens=False)[0]
    model.get_input_embeddings().weight.data[token] = math.nan
    model.save_pretrained(tmp_path)
    scorer = load(tmp_path)
    scorer.start()
    yield scorer
    await scorer.aclose()


async def test_a_number_that_is_not_finite_is_an_error_of_its_input(sick: Scorer) -> None:
    scored = await sick.score([group("q1", "Rest.", "Q")], Call())
    sound, failed = scored.groups[0].results
    assert sound.reward is not None
    assert failed.reward is None
    assert failed.error is not None
    assert (failed.error.code, failed.error.detail) == ("non_finite_reward", "the model gave [nan]")


async def test_an_input_with_an_error_has_no_numbers_either(sick: Scorer) -> None:
    found = await raw(sick, RawInput(text="Rest."), RawInput(text="Q"))
    assert [each.error is None for each in found.results] == [True, False]
    assert found.labels[0] != ()
    assert found.labels[1] == ()


async def test_a_pair_counts_with_both_texts_while_it_waits_to_be_rendered(
    scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    render: Callable[..., Awaitable[Any]] = scorer.pipeline.render

    async def watched(work: Any, *, characters: int, **more: Any) -> Any:
        counted.append(characters)
        return await render(work, characters=characters, **more)

    monkeypatch.setattr(scorer.pipeline, "render", watched)
    await raw(scorer, RawInput(text="four", pair="five5"), RawInput(ids=(1, 2, 3)))
    await scorer.score(GROUPS, Call())
    question = len("What helps a stuffy nose?")
    assert counted == [12, 4 * question + len("Rest.Steam helps.Rest.See a doctor.")]
    assert characters_of(GROUPS) == counted[1]


async def test_a_deterministic_model_takes_no_reward_that_was_packed(model_folder: Path) -> None:
    # Both have one fingerprint and share a cache; only one promises the last bit.
    shared = resources()
    packed, alone = load(model_folder, shared), load(model_folder, shared, deterministic=True)
    assert packed.info.fingerprint == alone.info.fingerprint
    for scorer in (packed, alone):
        scorer.start()
    await packed.score(GROUPS, Call())
    first = await alone.score(GROUPS, Call())
    assert first.usage.cached_candidates == 0
    assert (await alone.score(GROUPS, Call())).usage.cached_candidates == 4
    for scorer in (packed, alone):
        await scorer.aclose()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_a_deterministic_server_gives_the_same_bits_whatever_comes_together(
    dtype: str, model_folder: Path
) -> None:
    scorer = load(model_folder, deterministic=True, dtype=dtype)
    scorer.start()
    fresh = Call(uses_cache=False)
    alone = [rewards(await scorer.score([each], fresh)) for each in GROUPS]
    together = await asyncio.gather(*[scorer.score([each], fresh) for each in GROUPS * 3])
    assert [rewards(each) for each in together] == alone * 3
    swapped = rewards(await scorer.score(GROUPS[::-1], fresh))
    assert swapped == [*alone[1], *alone[0]]
    await scorer.aclose()


async def test_a_scorer_is_ready_between_its_start_and_its_end(model_folder: Path) -> None:
    scorer = load(model_folder)
    states = [scorer.is_ready]
    scorer.start()
    states.append(scorer.is_ready)
    await scorer.aclose()
    assert [*states, scorer.is_ready] == [False, True, False]


def info_with(labels: int) -> ModelInfo:
    head = Head(architecture="X", num_labels=labels, pooling="last_token")
    return ModelInfo(name="rm", fingerprint="f" * 16, identity=Identity(head=head))


def test_a_head_of_several_labels_is_refused_with_both_fixes() -> None:
    check_one_label(info_with(1))
    with pytest.raises(ServerStartError, match=r"rm has 3 labels.*num_labels=1.*multi_objective"):
        check_one_label(info_with(3))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reading_that_is_no_number_is_an_error(reward: float) -> None:
    item = TokenInput((1, 2), truncated_tokens=3)
    found = result(item, finite(Reading(reward)))
    assert found.reward is None
    assert found.error is not None
    assert (found.tokens, found.truncated_tokens) == (2, 3)
    assert finite(Reading(1.5)) == Reading(1.5)


def test_what_is_shared_is_counted_once() -> None:
    system = "Be brief. " * 9
    groups = [
        ScoreGroup.of(name, Conversation.ask(question, system=system), ["Rest.", "Rest.", "Steam."])
        for name, question in (("q1", "Why?"), ("q2", "How?"))
    ]
    assert unshared_characters_of(groups) == len(system + "Why?How?Rest.Steam.")
    assert characters_of(groups) == 2 * len((system + "Why?") * 3 + "Rest.Rest.Steam.")


def test_an_error_does_not_list_a_thousand_numbers() -> None:
    assert len(broken((math.nan,) * 1000).detail) < 100
