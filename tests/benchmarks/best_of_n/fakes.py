"""A policy in memory that answers by a rule, and questions for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

URL = "http://policy.test"
OPTIONS = {"A": "Rest", "B": "Tea", "C": "Ice"}


class Policy:
    """Answers a conversation by ``answer(its text, place of the sample)``; remembers what it drew.

    ``fail`` may give a response, or an error, in place of the answer.
    """

    def __init__(self, answer: Callable[[str, int], str]) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.fail: Callable[[str], httpx.Response | Exception | None] = lambda text: None

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(200)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base", "root": "m"}]})
        body = json.loads(request.content)
        text = body["messages"][0]["content"]
        failure = self.fail(text)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        self.bodies.append(body)
        choices = [self._choice(text, sample) for sample in range(body["n"])]
        return httpx.Response(200, json={"prompt_token_ids": [1], "choices": choices})

    def _choice(self, text: str, sample: int) -> dict[str, Any]:
        return {
            "index": sample,
            "message": {"content": self.answer(text, sample)},
            "token_ids": [7, 8],
            "logprobs": {"content": [{"logprob": -0.5}]},
            "finish_reason": "stop",
        }


def suite(folder: Path, count: int = 4, name: str = "dev.json") -> Path:
    """Questions ``q0``, ``q1``, … whose right option is A."""
    path = folder / name
    content = {
        f"id{n}": {"question": f"Is it q{n} ?", "options": OPTIONS, "answer": "A"}
        for n in range(count)
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def number_of(text: str) -> int:
    """Which question of a suite was asked."""
    return int(
        next(word for word in text.split() if word.startswith("q") and word[1:].isdigit())[1:]
    )


@contextmanager
def failing(url: str, *, after: int) -> Iterator[str]:
    """The URL of a server that stands before another and loses every POST but the first few."""
    left = iter(range(after))

    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(httpx.get(url + self.path))

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if next(left, None) is None:
                self.close_connection = True
                return
            headers = {"content-type": self.headers["content-type"]}
            self._answer(httpx.post(url + self.path, content=content, headers=headers, timeout=60))

        def _answer(self, response: httpx.Response) -> None:
            self.send_response(response.status_code)
            self.send_header("content-type", response.headers.get("content-type", ""))
            self.send_header("content-length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, format: str, *args: Any) -> None:
            """Not to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
