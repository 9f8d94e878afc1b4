"""What the harness needs of a policy server beside sampled chats: tokens, scores, completions.

The server itself turns text into tokens and conversations into prompts, so what is measured is what
is deployed. Does not know the harness, nor how texts are cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, FiniteFloat

from benchmarks.harness.generation import Generation
from benchmarks.harness.tokens import RenderedPrompt, Scoring, Text, TokenIds
from policy.client import AsyncPolicyClient, FinishReason
from policy.protocol import logprobs_request

NEUTRAL = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Switches off what a model's ``generation_config.json`` would otherwise add."""


class TokensAnswer(BaseModel):
    """vLLM's answer to ``POST /tokenize``."""

    tokens: list[int]
    max_model_len: int


class _TextAnswer(BaseModel):
    prompt: str


class _TokenLogprob(BaseModel):
    logprob: FiniteFloat


class _ScoredPrompt(BaseModel):
    prompt_logprobs: list[dict[int, _TokenLogprob] | None]


class ScoreAnswer(BaseModel):
    """vLLM's answer to :func:`score_request`."""

    choices: list[_ScoredPrompt]

    def to_loglikelihood(self, continuation: TokenIds) -> tuple[float, bool]:
        """The logprob of the continuation, and whether no other token was likelier anywhere.

        Raises:
            ValueError, LookupError: if the answer is about other tokens.
        """
        tail = [entry or {} for entry in self.choices[0].prompt_logprobs[-len(continuation) :]]
        logprobs = [entry[token].logprob for token, entry in zip(continuation, tail, strict=True)]
        best = [max(token.logprob for token in entry.values()) for entry in tail]
        return math.fsum(logprobs), logprobs == best


class _Completion(BaseModel):
    text: str
    finish_reason: FinishReason


class CompletionAnswer(BaseModel):
    """vLLM's answer to :func:`completion_request`."""

    choices: list[_Completion]

    def to_text(self) -> str:
        """The completion, without its stop string.

        Raises:
            ValueError, LookupError: if there is none, or the server gave up on it.
        """
        [completion] = self.choices
        if completion.finish_reason is FinishReason.ABORT:
            raise ValueError("the server gave up on the completion")
        return completion.text


class HarnessClient(AsyncPolicyClient):
    """A policy client that also asks for tokens, scores and completions of one version."""

    async def tokens(self, text: Text, *, version: str) -> TokensAnswer:
        """Tokenises a text.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused.
        """
        body = {
            "model": version,
            "prompt": text.text,
            "add_special_tokens": text.adds_special_tokens,
        }
        return await self._draw("/tokenize", body, TokensAnswer.model_validate_json)

    async def render(
        self, messages: Sequence[Mapping[str, str]], *, version: str, opens_answer: bool
    ) -> RenderedPrompt:
        """A conversation in the chat template that is deployed.

        Args:
            messages: roles and contents.
            version: the policy version.
            opens_answer: whether a new turn of the assistant begins at the end; else the last
                message is left open, to be gone on with.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the template refused, or there is none.
        """
        body = {
            "model": version,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": opens_answer,
            "continue_final_message": not opens_answer,
        }
        answer = await self._draw("/tokenize", body, TokensAnswer.model_validate_json)
        text = await self._draw(
            "/detokenize",
            {"model": version, "tokens": answer.tokens},
            lambda content: _TextAnswer.model_validate_json(content).prompt,
        )
        return RenderedPrompt(text, answer.tokens)

    async def loglikelihood(self, scoring: Scoring, *, version: str) -> tuple[float, bool]:
        """Natural logarithm of the continuation's probability, and whether it is greedy.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused.
        """
        return await self._draw(
            "/v1/completions",
            score_request(scoring, version=version),
            lambda answer: ScoreAnswer.model_validate_json(answer).to_loglikelihood(
                scoring.continuation
            ),
        )

    async def complete(
        self, prompt: TokenIds, generation: Generation, *, seed: int, version: str
    ) -> str:
        """What the policy goes on with.

        Raises:
            PolicyServerUnreachable: if no attempt reached the server.
            PolicyRequestFailed: if the server refused.
        """
        return await self._draw(
            "/v1/completions",
            completion_request(prompt, generation, seed=seed, version=version),
            lambda answer: CompletionAnswer.model_validate_json(answer).to_text(),
        )


def score_request(scoring: Scoring, *, version: str) -> dict[str, Any]:
    """Body of ``POST /v1/completions`` that scores every token and names the likeliest one."""
    token_ids = [*scoring.context, *scoring.continuation]
    return {**logprobs_request(token_ids, version=version), "prompt_logprobs": 1}


def completion_request(
    prompt: TokenIds, generation: Generation, *, seed: int, version: str
) -> dict[str, Any]:
    """Body of ``POST /v1/completions`` that generates.

    Special tokens stay in the text, since a task's stop string may be one; the one that ends the
    answer does not.
    """
    return {
        "model": version,
        "prompt": list(prompt),
        "max_tokens": generation.max_tokens,
        "temperature": generation.temperature,
        "stop": list(generation.stop),
        "seed": seed,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        **NEUTRAL,
        **generation.sampling,
    }
