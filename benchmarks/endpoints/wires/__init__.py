"""Wires of other reward servers, from the side of whoever asks.

Grouped by what they carry: rendered ``texts``, ``chats``, ``pairs``; ``oat`` has an encoding of its
own. Every one asks for raw rewards.
"""

from __future__ import annotations

from typing import Any, Literal

from benchmarks.endpoints.wires import chats, oat, pairs, texts
from benchmarks.endpoints.wires.base import Wire

WireName = Literal[
    "openrlhf",
    "llama-factory",
    "kserve",
    "tei-predict",
    "tei-rerank",
    "vllm-classify",
    "vllm-pooling",
    "vllm-score",
    "vllm-rerank",
    "sglang",
    "sglang-classify",
    "slime",
    "nim",
    "oat",
]

WIRES: dict[WireName, Wire[Any]] = {
    "openrlhf": texts.OPENRLHF,
    "llama-factory": texts.LLAMA_FACTORY,
    "kserve": texts.KSERVE,
    "tei-predict": texts.TEI_PREDICT,
    "tei-rerank": pairs.TEI_RERANK,
    "vllm-classify": chats.VLLM_CLASSIFY,
    "vllm-pooling": chats.VLLM_POOLING,
    "vllm-score": pairs.VLLM_SCORE,
    "vllm-rerank": pairs.VLLM_RERANK,
    "sglang": texts.SGLANG,
    "sglang-classify": texts.SGLANG_CLASSIFY,
    "slime": chats.SLIME,
    "nim": chats.NIM,
    "oat": oat.OAT,
}

__all__ = ["WIRES", "Wire", "WireName"]
