"""The rules of the harness's model that need no server."""

from __future__ import annotations

import asyncio
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.models.utils import normalize_gen_kwargs

from benchmarks.errors import BenchmarkError
from benchmarks.harness.command import main
from benchmarks.harness.generation import Generation, read_generation, seed_of
from benchmarks.harness.tokens import (
    RenderedPrompt,
    Scoring,
    Text,
    TokenIds,
    begun,
    fitted,
    fitted_prompt,
    pair_texts,
    split_pair,
    with_one_start,
)
from benchmarks.harness.wire import HarnessClient, ScoreAnswer
from policy.errors import PolicyRequestFailed

BOS = 1
PREFIX = 2


def letters(text: str) -> TokenIds:
    """A tokenizer of characters that joins ``ab``."""
    return tuple(map(ord, text.replace("ab", "é")))


def token_ids(texts: list[Text], tokenise: Callable[[str], TokenIds]) -> dict[Text, TokenIds]:
    return {
        each: (BOS, *tokenise(each.text)) if each.adds_special_tokens else tokenise(each.text)
        for each in texts
    }


def split(
    context: str, continuation: str, tokenise: Callable[[str], TokenIds] = letters
) -> Scoring:
    return split_pair(context, continuation, token_ids(pair_texts(context, continuation), tokenise))


def test_a_pair_is_tokenised_as_one_text_and_parted_where_the_context_ends() -> None:
    assert split("no", " yes") == Scoring((BOS, *letters("no")), letters(" yes"))


def test_white_space_at_the_end_of_the_context_is_scored() -> None:
    assert split("no \n", "yes") == Scoring((BOS, *letters("no")), letters(" \nyes"))


@pytest.mark.parametrize("context", ["", "\n"])
def test_a_context_without_text_leaves_room_for_a_prefix(context: str) -> None:
    assert split(context, "yes") == Scoring((), letters(f"{context}yes"))


def test_a_continuation_that_melts_into_its_context_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="'b' after 'a' has no token of its own"):
        split("a", "b")


def test_a_rendered_prompt_has_its_own_bos() -> None:
    prompt = RenderedPrompt("<s>no", letters("<s>no"))
    assert split(prompt, "yes") == Scoring(letters("<s>no"), letters("yes"))


def test_a_rendered_prompt_keeps_its_tokens_where_its_text_has_others() -> None:
    prompt = RenderedPrompt("<s> no\n", (BOS, *letters("no\n")))
    assert split(prompt, "yes") == Scoring((BOS, *letters("no\n")), letters("yes"))


def test_a_rendered_prompt_survives_the_harnesss_cache() -> None:
    prompt = pickle.loads(pickle.dumps(RenderedPrompt("<s>no", (BOS, 7))))
    assert (prompt, prompt.token_ids) == ("<s>no", (BOS, 7))


def test_a_scoring_without_context_begins_with_the_prefix() -> None:
    assert begun(Scoring((), (7, 8)), PREFIX) == Scoring((PREFIX,), (7, 8))


def test_a_text_that_begins_with_the_prefix_is_not_given_another() -> None:
    assert begun(Scoring((), (PREFIX, 8)), PREFIX) == Scoring((PREFIX,), (8,))


def test_a_prefix_alone_cannot_be_scored() -> None:
    with pytest.raises(BenchmarkError, match="nothing but the token"):
        begun(Scoring((), (PREFIX,)), PREFIX)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param((BOS, BOS, 7), (BOS, 7), id="a second one goes"),
        pytest.param((BOS, 7), (BOS, 7), id="one stays"),
        pytest.param((BOS,), (BOS,), id="an empty text"),
    ],
)
def test_every_text_begins_with_one_bos(given: TokenIds, expected: TokenIds) -> None:
    assert with_one_start(given, (BOS,)) == expected


def test_a_tokenizer_without_bos_is_left_alone() -> None:
    assert with_one_start((7, 7, 8), ()) == (7, 7, 8)


ids = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(tuple)


@given(context=ids, continuation=ids, longest=st.integers(13, 30))
def test_what_is_scored_is_never_cut(
    context: TokenIds, continuation: TokenIds, longest: int
) -> None:
    fit = fitted(Scoring(context, continuation), longest=longest, on_overflow="truncate")
    assert fit.continuation == continuation
    assert fit.context == context[-len(fit.context) :]
    assert len(fit.context) == min(len(context), longest - len(continuation)) >= 1


def test_a_long_context_is_refused_where_nothing_may_be_cut() -> None:
    with pytest.raises(BenchmarkError, match="a context of 5 tokens, and the policy takes 4"):
        fitted(Scoring((1, 2, 3), (4, 5)), longest=4, on_overflow="error")


def test_a_continuation_that_fills_the_model_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="4 tokens, and no more than 3 can be scored"):
        fitted(Scoring((1,), (2, 3, 4, 5)), longest=4, on_overflow="truncate")


def test_a_prompt_leaves_room_for_the_answer() -> None:
    def fit(prompt: TokenIds, max_tokens: int) -> TokenIds:
        return fitted_prompt(prompt, max_tokens=max_tokens, max_model_len=5, on_overflow="truncate")

    assert fit((1, 2, 3), 2) == (1, 2, 3)
    assert fit((1, 2, 3), 3) == (2, 3)
    with pytest.raises(BenchmarkError, match="max_gen_toks: 5 leaves no room"):
        fit((1,), 5)


def generation(**settings: Any) -> Generation:
    return read_generation(normalize_gen_kwargs(settings, default_max_gen_toks=9))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, Generation(9, 0.0, (), {}), id="greedy unless told"),
        pytest.param(
            {"do_sample": False, "temperature": 0.7},
            Generation(9, 0.0, (), {}),
            id="greedy when told, whatever the temperature",
        ),
        pytest.param({"do_sample": True}, Generation(9, 1.0, (), {}), id="sampled"),
        pytest.param(
            {"temperature": 0.7, "top_p": 0.9, "until": "\n", "max_new_tokens": 3},
            Generation(3, 0.7, ("\n",), {"top_p": 0.9}),
            id="all that a task says",
        ),
        pytest.param({"num_beams": 1}, Generation(9, 0.0, (), {}), id="a single beam"),
    ],
)
def test_generation_settings_mean_what_they_mean_in_the_harness(
    settings: dict[str, Any], expected: Generation
) -> None:
    assert generation(**settings) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"num_beams": 4}, "num_beams: 4", id="beams"),
        pytest.param({"length_penalty": 2}, "length_penalty: 2", id="unknown"),
    ],
)
def test_a_setting_that_the_server_lacks_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        generation(**settings)


def test_repeats_have_seeds_of_their_own() -> None:
    seeds = {seed_of(0, "q", {"temperature": 1.0}, repeat=i) for i in range(64)}
    assert len(seeds) == 64
    assert seed_of(0, "q", {}, repeat=1) == seed_of(0, "q", {}, repeat=1)
    assert seed_of(0, "q", {}, repeat=1) != seed_of(1, "q", {}, repeat=1)


def scored(*entries: dict[str, float]) -> ScoreAnswer:
    logprobs = [
        {token: {"logprob": logprob} for token, logprob in entry.items()} or None
        for entry in entries
    ]
    return ScoreAnswer.model_validate({"choices": [{"prompt_logprobs": logprobs}]})


def test_a_continuation_is_greedy_if_each_of_its_tokens_is_the_likeliest() -> None:
    answer = scored({}, {"7": -3.0, "8": -1.0}, {"8": -0.5}, {"9": -0.25, "4": -0.25})
    assert answer.to_loglikelihood((8, 9)) == (-0.75, True)
    assert answer.to_loglikelihood((7, 8, 9)) == (-3.75, False)


@pytest.mark.parametrize("logprob", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_no_score(logprob: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        scored({}, {"7": logprob})


def test_a_server_that_gave_up_gives_no_text() -> None:
    def give_up(request: httpx.Request) -> httpx.Response:
        choice = {"text": "Rest", "finish_reason": "abort"}
        return httpx.Response(200, json={"choices": [choice]})

    async def ask() -> str:
        async with HarnessClient("http://a", transport=httpx.MockTransport(give_up)) as client:
            return await client.complete((1,), generation(), seed=0, version="base")

    with pytest.raises(PolicyRequestFailed, match="gave up"):
        asyncio.run(ask())


def test_the_command_needs_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--server", "http://127.0.0.1:1"])
    assert exit_.value.code == 2
    assert "--tasks: missing" in capsys.readouterr().err


def test_without_the_harness_the_command_names_the_fix() -> None:
    program = (
        "import sys; sys.modules['lm_eval'] = None\n"
        "from benchmarks.harness.command import main\n"
        "from foundation.errors import UserError\n"
        "try: main(['--server', 'http://127.0.0.1:1', '--tasks', 'any'])\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "lm_eval: not installed; pip install 'medpref[harness]'\n"
