"""A policy server in memory with two versions that answer by rules of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from tests.benchmarks.before_after.folders import CANARY

Say = Callable[[str, str, int], str]
"""Version, question and sample to an answer."""

Weigh = Callable[[str, str, str], float]
"""Version, question and response to the log-probability of each of its letters."""


def nothing(version: str, question: str, sample: int) -> str:
    return "I do not know."


def even(version: str, question: str, response: str) -> float:
    return -1.0


class TwoPolicies:
    """``base`` and ``r2``. A letter is a token.

    Attributes:
        bodies: of the requests for answers and likelihoods, in order.
        fail: what a request fails with, by version and question.
        canary_shift: how far the served version is from the trained one.
    """

    def __init__(self, say: Say = nothing, weigh: Weigh = even) -> None:
        self.say = say
        self.weigh = weigh
        self.bodies: list[dict[str, Any]] = []
        self.fail: Callable[[str, str], httpx.Response | Exception | None] = lambda *_: None
        self.versions = ["r2"]
        self.canary_shift = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/health":
            return httpx.Response(200)
        if path == "/v1/models":
            adapters = [{"id": each, "root": "a", "parent": "base"} for each in self.versions]
            return httpx.Response(200, json={"data": [{"id": "base"}, *adapters]})
        body = json.loads(request.content)
        if path == "/v1/completions":
            return self._canary()
        return self._chat(path, body)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def _canary(self) -> httpx.Response:
        pairs = zip(CANARY.response_token_ids, CANARY.logprobs, strict=True)
        tail = [{str(token): {"logprob": value + self.canary_shift}} for token, value in pairs]
        return httpx.Response(200, json={"choices": [{"prompt_logprobs": [None, {}, *tail]}]})

    def _chat(self, path: str, body: dict[str, Any]) -> httpx.Response:
        version, question = body["model"], body["messages"][0]["content"]
        begun = body["messages"][-1]["content"] if body["messages"][1:] else ""
        failure = self.fail(version, question)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        tokens = [1, 2, *(100 + ord(letter) for letter in begun)]
        if path == "/tokenize":
            return httpx.Response(200, json={"tokens": tokens})
        self.bodies.append(body)
        if "prompt_logprobs" in body:
            each = {"logprob": self.weigh(version, question, begun)}
            scored = [None, *({token: each} for token in tokens[1:])]
            answer = {"prompt_token_ids": tokens, "prompt_logprobs": scored, "choices": []}
            return httpx.Response(200, json=answer)
        choices = [self._choice(body, version, question, sample) for sample in range(body["n"])]
        return httpx.Response(200, json={"prompt_token_ids": [1], "choices": choices})

    def _choice(
        self, body: dict[str, Any], version: str, question: str, sample: int
    ) -> dict[str, Any]:
        text = self.say(version, question, sample)
        tokens = list(range(len(text.split())))[: body["max_tokens"]]
        return {
            "index": sample,
            "message": {"content": text},
            "token_ids": tokens,
            "logprobs": {"content": [{"logprob": -0.5}]},
            "finish_reason": "length" if len(tokens) == body["max_tokens"] else "stop",
        }
