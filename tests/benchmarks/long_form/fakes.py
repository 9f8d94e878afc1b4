"""A judge and a policy in memory, and questions whose statements say what to decide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

POLICY, JUDGE = "http://policy.test", "http://judge.test/v1"

RECORDS: list[dict[str, Any]] = [
    {"Question": "What of q0?", "Must_have": ["say rest", "say tea"], "Nice_to_have": ["say ice"]},
    {"Question": "What of q1?", "Must_have": ["say rest"], "Nice_to_have": ["never rest"]},
    {"Question": "What of q2?", "Must_have": ["say tea", "never rest"], "Nice_to_have": []},
]
"""``say X`` is entailed by an answer that has X; ``never X`` is contradicted by it."""

Reply = httpx.Response | Exception | None


def data(folder: Path, records: list[dict[str, Any]] | None = None) -> str:
    path = folder / "questions_w_answers.jsonl"
    lines = (json.dumps(record) for record in (RECORDS if records is None else records))
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def answers(folder: Path, answer: str = "rest, I think", count: int = 3) -> Path:
    path = folder / "results.json"
    content = [{"Question": record["Question"], "result": answer} for record in RECORDS[:count]]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def verdict(prompt: str) -> str:
    """What a good judge says of a prompt."""
    parts = dict(re.findall(r"<(answer|statement)>\n(.*?)\n</\1>", prompt, re.DOTALL))
    kind, word = parts["statement"].split()
    has_word = word in parts["answer"]
    decided = has_word and kind == ("never" if "contradicts" in prompt else "say")
    return f"It is plain.\nVerdict: {str(decided).lower()}"


class Servers:
    """The policy says ``rest, I think``; the judge decides by the words. Both remember."""

    def __init__(self) -> None:
        self.judged: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.judge: Callable[[str], str | Reply] = verdict
        self.policy: Callable[[str], Reply] = lambda text: None
        self.finish_reason = "stop"

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "judge.test":
            return self._judge(request)
        if request.url.path == "/health":
            return httpx.Response(200)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base", "root": "m"}]})
        body = json.loads(request.content)
        failure = self.policy(body["messages"][0]["content"])
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        self.answered.append(body)
        choice = {
            "index": 0,
            "message": {"content": "rest, I think"},
            "token_ids": [7],
            "logprobs": {"content": [{"logprob": -0.5}]},
            "finish_reason": self.finish_reason,
        }
        return httpx.Response(200, json={"prompt_token_ids": [1], "choices": [choice]})

    def _judge(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(404)
        body = json.loads(request.content)
        said = self.judge(body["messages"][0]["content"])
        if isinstance(said, Exception):
            raise said
        if isinstance(said, httpx.Response):
            return said
        self.judged.append(body)
        choice = {"index": 0, "message": {"content": said}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice]})
