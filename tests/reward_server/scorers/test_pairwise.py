from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from corpora.conversation import Conversation, Message
from reward_server.batcher import WARM_UP, Batcher
from reward_server.cache import RewardCache
from reward_server.errors import (
    CandidateTooLong,
    DeviceOutOfMemory,
    LimitExceeded,
    ServerStartError,
)
from reward_server.loading import Resources, load_scorer
from reward_server.pipeline import Pipeline
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    EngineName,
    Identity,
    ItemError,
    ModelInfo,
    OnOverflow,
    ScoreGroup,
)
from reward_server.scorer import Call, RawInput, RawScorer, Scorer
from reward_server.scorers.pairwise import (
    DEFAULT_PROMPT,
    MAX_CANDIDATES,
    PairwiseScorer,
    check_prompt,
    log_odds,
    write_prompt,
)
from reward_server.scorers.token import Reading
from reward_server.specs import PairwiseSpec
from reward_server.tokens import Labels, TokenInput
from tests.reward_server.engine.small import save_causal
from tests.reward_server.tiny import group, make_tokenizer

pytestmark = pytest.mark.anyio

TOKENIZER = make_tokenizer()


class FakeRenderer:
    """A text's tokens are its characters."""

    template = "none"

    def render(self, group: ScoreGroup, *, on_overflow: OnOverflow) -> list[TokenInput]:
        raise NotImplementedError

    def render_prompt(self, messages: Sequence[ChatMessage]) -> TokenInput:
        if "too long" in messages[0].content:
            raise CandidateTooLong("99 tokens, limit 9; shorten it")
        return TokenInput(tuple(map(ord, messages[0].content)))

    def render_raw(
        self, inputs: Sequence[RawInput], *, on_overflow: OnOverflow
    ) -> list[TokenInput]:
        raise NotImplementedError


class FakeEngine:
    """Reads the strength of a response as a number, and favours the first by ``bias``."""

    name: EngineName = "packed"

    def __init__(self, bias: float) -> None:
        self._bias = bias

    def order(self, inputs: Sequence[TokenInput]) -> tuple[list[int], list[int]]:
        return list(range(len(inputs))), [len(item.ids) for item in inputs]

    def forward(self, inputs: Sequence[TokenInput]) -> list[Labels]:
        return [(0.0, 0.0) if each == WARM_UP else self._read(each) for each in inputs]

    def _read(self, item: TokenInput) -> Labels:
        text = "".join(map(chr, item.ids))
        found = re.search(r"\[RESPONSE A\] (\S+) \[RESPONSE B\] (\S+) \n$", text)
        assert found is not None
        if "heavy" in found.groups():
            raise DeviceOutOfMemory("too heavy")
        first, second = map(float, found.groups())
        return (first + self._bias, second)


@asynccontextmanager
async def judged(bias: float = 0.0) -> AsyncIterator[PairwiseScorer]:
    batcher = Batcher(FakeEngine(bias), max_batch_tokens=1, max_pending_tokens=10**6)
    pipeline = Pipeline(
        batcher,
        FakeRenderer,
        fingerprint="f",
        cache=RewardCache(0),
        max_pending_tokens=10**6,
    )
    info = ModelInfo(name="pm", fingerprint="f" * 16, identity=Identity(kind="pairwise"))
    scorer = PairwiseScorer(info, pipeline, DEFAULT_PROMPT)
    scorer.start()
    yield scorer
    await scorer.aclose()


async def compared(scorer: Scorer, *candidates: str) -> tuple[CandidateResult, ...]:
    return (await scorer.score([group("q1", *candidates)], Call())).groups[0].results


async def test_a_reward_is_the_mean_of_the_log_odds_against_every_rival() -> None:
    async with judged() as scorer:
        results = await compared(scorer, "1", "4", "-2")
    expected = [fmean([1 - 4, 1 + 2]), fmean([4 - 1, 4 + 2]), fmean([-2 - 1, -2 - 4])]
    assert [each.reward for each in results] == pytest.approx(expected)
    assert [each.disagreement for each in results] == pytest.approx([0.0] * 3)


async def test_two_candidates_have_opposite_rewards_whatever_their_order() -> None:
    async with judged(bias=3.0) as scorer:
        first, second = await compared(scorer, "1", "4")
        swapped = await compared(scorer, "4", "1")
    assert first.reward == -3.0
    assert second.reward == 3.0
    assert [each.reward for each in swapped] == [3.0, -3.0]


async def test_a_model_that_favours_a_place_shows_it_as_disagreement_only() -> None:
    async with judged() as fair, judged(bias=-5.0) as biased:
        without, with_bias = (
            await compared(fair, "1", "4", "2"),
            await compared(biased, "1", "4", "2"),
        )
    assert [each.reward for each in with_bias] == [each.reward for each in without]
    assert [each.disagreement for each in with_bias] == [5.0] * 3


async def test_a_candidate_without_a_rival_has_no_reward() -> None:
    async with judged() as scorer:
        scored = await scorer.score([group("q1", "1"), group("q2", "1", "4")], Call())
    (lonely,) = scored.groups[0].results
    assert lonely.reward is None
    assert lonely.error is not None
    assert lonely.error.code == "no_rival"
    assert [each.reward for each in scored.groups[1].results] == [-3.0, 3.0]


async def test_a_request_without_any_rivals_needs_no_device() -> None:
    async with judged() as scorer:
        scored = await scorer.score([group("q1", "1")], Call())
    assert scored.usage.tokens == scored.usage.computed_tokens == 0


async def test_a_comparison_without_an_answer_fails_both_and_nobody_else() -> None:
    async with judged() as scorer:
        broken, other, third = await compared(scorer, "heavy", "4", "2")
    # The other two cannot be ranked against each other and against it alike.
    for each in (broken, other, third):
        assert each.reward is None
        assert each.error == ItemError(code="out_of_memory", detail="too heavy")
    async with judged() as scorer:
        scored = await scorer.score([group("q1", "heavy", "4"), group("q2", "1", "4")], Call())
    assert [each.reward for each in scored.groups[1].results] == [-3.0, 3.0]


async def test_every_comparison_is_counted() -> None:
    async with judged() as scorer:
        scored = await scorer.score([group("q1", "1", "4", "2")], Call())
    one = len(write_prompt(DEFAULT_PROMPT, group(), "1", "4"))
    assert scored.usage.tokens == 6 * one
    assert [each.tokens for each in scored.groups[0].results] == [4 * one] * 3


async def test_a_comparison_that_is_too_long_is_named() -> None:
    async with judged() as scorer:
        with pytest.raises(CandidateTooLong, match="group 'q1', candidates 0 and 2: 99 tokens"):
            await compared(scorer, "1", "4", "too long")


async def test_a_group_with_too_many_rivals_is_refused() -> None:
    async with judged() as scorer:
        with pytest.raises(LimitExceeded, match=f"33 candidates, limit {MAX_CANDIDATES}"):
            await compared(scorer, *["1"] * 33)


async def test_raw_inputs_have_no_rivals() -> None:
    async with judged() as scorer:
        assert not isinstance(scorer, RawScorer)


NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_log_odds_change_their_sign_with_the_sides(a: float, b: float, c: float, d: float) -> None:
    one, other = log_odds((a, b), (c, d)), log_odds((c, d), (a, b))
    assert isinstance(one, Reading)
    assert isinstance(other, Reading)
    assert one.reward == -other.reward
    assert one.disagreement == other.disagreement
    assert one.disagreement is not None
    assert one.disagreement >= 0


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_constant_taste_for_a_place_cancels_out(first: float, second: float, bias: float) -> None:
    found = log_odds((first + bias, second), (second + bias, first))
    assert isinstance(found, Reading)
    assert found.reward == pytest.approx(first - second, abs=1e-6)
    assert found.disagreement == pytest.approx(abs(bias), abs=1e-6)


def test_log_odds_that_are_no_number_are_an_error() -> None:
    nan = float("nan")
    assert isinstance(log_odds((nan, 0.0), (0.0, 0.0)), ItemError)
    inf = float("inf")
    assert isinstance(log_odds((inf, 0.0), (0.0, inf)), ItemError)


def test_the_default_prompt_is_that_of_the_published_preference_models() -> None:
    conversation = Conversation(
        (Message("user", "Hi."), Message("assistant", "Yes?"), Message("user", "Why?"))
    )
    asked = ScoreGroup.of("q1", conversation, ["one", "two"])
    assert write_prompt(check_prompt(""), asked, "one", "two") == (
        "[CONTEXT] \n\n<turn> user\n Hi.\n<turn> assistant\n Yes?\n<turn> user\n Why?\n"
        " [RESPONSE A] one [RESPONSE B] two \n"
    )


def test_what_a_text_holds_is_never_taken_for_a_placeholder() -> None:
    prompt = "{conversation}|{response_a}|{response_b}|{other}|{{response_a}}"
    asked = ScoreGroup.of("q1", Conversation.ask("{response_a}"), ["x"])
    written = write_prompt(prompt, asked, "{response_b}", "{conversation} {0} \\1")
    assert written == (
        "<turn> user\n {response_a}\n|{response_b}|{conversation} {0} \\1|{other}|{{response_b}}"
    )


@pytest.mark.parametrize("missing", ["{conversation}", "{response_a}", "{response_b}"])
def test_a_prompt_without_a_placeholder_is_refused(missing: str) -> None:
    with pytest.raises(ServerStartError, match=f"prompt: {re.escape(missing)} is missing; add it"):
        check_prompt(DEFAULT_PROMPT.replace(missing, ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference_model")
    save_causal(folder, TOKENIZER, max_position_embeddings=512)
    return folder


def load(folder: Path, cache: RewardCache | None = None, **settings: Any) -> Scorer:
    resources = Resources(
        cache=RewardCache(0) if cache is None else cache,
        max_pending_tokens=100_000,
        bulk_patience_seconds=1.0,
    )
    spec = PairwiseSpec(kind="pairwise", model=str(folder), dtype="float32", **settings)
    return load_scorer("pm", spec, resources, {})


async def test_a_real_model_is_asked_in_both_orders(folder: Path) -> None:
    scorer = load(folder)
    scorer.start()
    results = await compared(scorer, "Rest.", "Steam helps.")
    await scorer.aclose()
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokens = TOKENIZER.convert_tokens_to_ids(["A", "B"])

    def odds(first: str, second: str) -> float:
        prompt = write_prompt(DEFAULT_PROMPT, group(), first, second)
        ids = TOKENIZER.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            a, b = model(**ids).logits[0, -1, tokens].tolist()
        return float(a - b)

    one, other = odds("Rest.", "Steam helps."), -odds("Steam helps.", "Rest.")
    assert results[0].reward == pytest.approx((one + other) / 2, abs=1e-4)
    assert results[1].reward == pytest.approx(-(one + other) / 2, abs=1e-4)
    assert results[0].disagreement == pytest.approx(abs(one - other) / 2, abs=1e-4)


async def test_models_with_other_choices_do_not_share_what_was_computed(folder: Path) -> None:
    cache = RewardCache(100)
    scorers = [load(folder, cache), load(folder, cache, choices=("B", "A"))]
    rewards = []
    for scorer in scorers:
        scorer.start()
        rewards.append([each.reward for each in await compared(scorer, "Rest.", "Steam.")])
        await scorer.aclose()
    assert scorers[0].info.fingerprint != scorers[1].info.fingerprint
    assert rewards[0] == pytest.approx([-each for each in rewards[1] if each is not None])
    assert rewards[0] != pytest.approx(rewards[1])


def test_prompt_and_choices_decide_the_fingerprint(folder: Path) -> None:
    scorers = [
        load(folder),
        load(folder, prompt=DEFAULT_PROMPT + "?"),
        load(folder, choices=("a", "b")),
    ]
    assert len({scorer.info.fingerprint for scorer in scorers}) == 3
