"""What is asked of a policy and what comes back, and its translation to and from vLLM's wire.

vLLM speaks OpenAI's format with extensions of its own; the ones used here are ``return_token_ids``,
``prompt_logprobs`` and, for several candidates, child seeds: candidate ``i`` of a group is drawn
with ``seed + i``, so groups whose seeds lie closer than their number of candidates share draws.

Pure: no sockets, no clock. Knows no retries and no server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from corpora.conversation import Conversation

BASE = "base"
"""The policy version without any adapter."""


class FinishReason(StrEnum):
    """Why a candidate ends."""

    STOP = "stop"
    """The policy ended its turn."""

    LENGTH = "length"
    """It ran into ``max_tokens`` or the context limit: the response is cut."""

    ABORT = "abort"
    """The server gave up on it, for example because it was stopped."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How candidates are drawn. Nothing else of the server's defaults applies."""

    candidates: int
    """Candidates per conversation."""

    temperature: float
    top_p: float
    max_tokens: int
    """Longest response, in tokens."""

    seed: int
    """Of the first candidate; each further one adds one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response.

    ``token_ids`` end with the end-of-turn token where ``finish_reason`` is ``stop``; ``text`` is
    without it. ``logprob`` is the natural logarithm of the probability of all of ``token_ids``
    under the policy's own distribution, before temperature and top-p.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprob: float
    seed: int


@dataclass(frozen=True, slots=True)
class SampledGroup:
    """The candidates of one conversation, in the order of their seeds, and who wrote them."""

    prompt_token_ids: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    policy_version: str


class _Wire(BaseModel):
    """The part of an answer that is read; whatever else it holds is ignored."""


class _Message(_Wire):
    content: str | None


class _TokenLogprob(_Wire):
    logprob: float


class _Logprobs(_Wire):
    content: list[_TokenLogprob]


class _Choice(_Wire):
    index: int
    message: _Message
    token_ids: list[int]
    logprobs: _Logprobs
    finish_reason: FinishReason


class ChatAnswer(_Wire):
    """vLLM's answer to :func:`chat_request`."""

    prompt_token_ids: list[int]
    choices: list[_Choice]

    def to_group(self, *, version: str, seed: int) -> SampledGroup:
        """The group, its candidates in the order of their seeds."""
        choices = sorted(self.choices, key=lambda choice: choice.index)
        return SampledGroup(
            prompt_token_ids=tuple(self.prompt_token_ids),
            candidates=tuple(_candidate(choice, seed) for choice in choices),
            policy_version=version,
        )


class _ScoredPrompt(_Wire):
    prompt_logprobs: list[dict[int, _TokenLogprob] | None]


class CompletionAnswer(_Wire):
    """vLLM's answer to :func:`logprobs_request`."""

    choices: list[_ScoredPrompt]

    def to_logprobs(self, response_token_ids: Sequence[int]) -> tuple[float, ...]:
        """One logprob for each token of the response, which is the end of what was scored.

        Raises:
            ValueError, LookupError: if the answer is about other tokens.
        """
        tail = self.choices[0].prompt_logprobs[-len(response_token_ids) :]
        return tuple(
            (entry or {})[token].logprob
            for token, entry in zip(response_token_ids, tail, strict=True)
        )


class ContinuedAnswer(_Wire):
    """vLLM's answer to :func:`continuation_request`."""

    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, _TokenLogprob] | None]

    def logprobs_from(self, start: int) -> tuple[float, ...]:
        """One logprob for each token from place ``start`` on.

        Raises:
            ValueError, LookupError: if the answer is about other tokens.
        """
        pairs = zip(self.prompt_token_ids, self.prompt_logprobs, strict=True)
        return tuple((entry or {})[token].logprob for token, entry in list(pairs)[start:])


class TokenizeAnswer(_Wire):
    """vLLM's answer to :func:`tokenize_request`."""

    tokens: list[int]


class _ServedModel(_Wire):
    id: str
    root: str = ""
    parent: str | None = None
    max_model_len: int | None = None


class ModelsAnswer(_Wire):
    """vLLM's answer to ``GET /v1/models``."""

    data: list[_ServedModel]

    @property
    def versions(self) -> tuple[str, ...]:
        """The base first, then the adapters in the order of their loading."""
        return (BASE, *self.adapters) if any(model.id == BASE for model in self.data) else ()

    @property
    def adapters(self) -> dict[str, str]:
        """Where each adapter was loaded from; the base is none, however it is served."""
        return {model.id: model.root for model in self.data if model.parent and model.id != BASE}

    @property
    def context_tokens(self) -> int | None:
        """Tokens of a conversation and its answer together at most; ``None`` if it is not told."""
        return next((model.max_model_len for model in self.data if not model.parent), None)

    def origin(self, version: str) -> str:
        """What a version was loaded from: its model and, after a blank, its adapter.

        Other weights under an old name show here.
        """
        model = next((model.root for model in self.data if not model.parent), "")
        return " ".join(filter(None, (model, self.adapters.get(version))))


def chat_request(
    conversation: Conversation, parameters: SamplingParameters, *, version: str
) -> dict[str, Any]:
    """Body of ``POST /v1/chat/completions``.

    The second half switches off what a model's ``generation_config.json`` would otherwise add.
    """
    return {
        "model": version,
        "messages": conversation.to_dicts(),
        "n": parameters.candidates,
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        "max_tokens": parameters.max_tokens,
        "seed": parameters.seed,
        "logprobs": True,
        "return_token_ids": True,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def logprobs_request(token_ids: Sequence[int], *, version: str) -> dict[str, Any]:
    """Body of ``POST /v1/completions`` that scores every given token.

    ``prompt_logprobs`` also keeps vLLM from reading its prefix cache for this request, so the
    numbers come from the weights that are loaded now.
    """
    return {
        "model": version,
        "prompt": list(token_ids),
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
    }


def continuation_request(
    conversation: Conversation, continuation: str, *, version: str
) -> dict[str, Any]:
    """Body of ``POST /v1/chat/completions`` that scores a response that has only begun."""
    return {
        "model": version,
        **_open_ended(conversation, continuation),
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }


def tokenize_request(conversation: Conversation, lead: str, *, version: str) -> dict[str, Any]:
    """Body of ``POST /tokenize`` for a conversation whose response begins with ``lead``."""
    return {"model": version, **_open_ended(conversation, lead)}


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two sequences begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def load_request(version: str, adapter: Path) -> dict[str, str]:
    """Body of ``POST /v1/load_lora_adapter``; the server may run in another working folder."""
    return {"lora_name": version, "lora_path": str(adapter.absolute())}


def _open_ended(conversation: Conversation, text: str) -> dict[str, Any]:
    """The fields that render a conversation up to where a response would go on after ``text``."""
    begun = [{"role": "assistant", "content": text}] if text else []
    return {
        "messages": [*conversation.to_dicts(), *begun],
        "add_generation_prompt": not text,
        "continue_final_message": bool(text),
    }


def _candidate(choice: _Choice, seed: int) -> Candidate:
    return Candidate(
        text=choice.message.content or "",
        token_ids=tuple(choice.token_ids),
        finish_reason=choice.finish_reason,
        logprob=math.fsum(token.logprob for token in choice.logprobs.content),
        seed=seed + choice.index,
    )
