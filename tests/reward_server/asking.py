"""What requests to an application with a fake scorer are made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

GROUP: dict[str, Any] = {
    "id": "q1",
    "messages": [{"role": "user", "content": "What helps a stuffy nose?"}],
    "candidates": ["Rest.", "Steam helps."],
}
SHORT = {"kind": "rules", "rules": [{"rule": "length", "max_words": 1}]}
LONG = {"kind": "rules", "rules": [{"rule": "length", "min_words": 2}]}
MARKER = "zebrawort"
"""Stands in conversations, and so must not stand in logs, problems or metrics."""

Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def body(**fields: Any) -> dict[str, Any]:
    return {"groups": [GROUP], **fields}


def body_with(**fields: Any) -> dict[str, Any]:
    return {"groups": [{**GROUP, **fields}]}


def body_without(field: str) -> dict[str, Any]:
    return {"groups": [{name: value for name, value in GROUP.items() if name != field}]}
