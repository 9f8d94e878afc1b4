"""What a task of the harness may ask of a generation, and the seeds it is drawn with. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import BenchmarkError

SAMPLING = frozenset(
    ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
)
"""Settings that the server takes under the harness's own names."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How one answer is generated."""

    max_tokens: int
    temperature: float
    """0 is greedy."""

    stop: tuple[str, ...]
    sampling: Mapping[str, float]
    """Of :data:`SAMPLING`, where the task names them."""


def read_generation(settings: Mapping[str, Any]) -> Generation:
    """Reads ``generation_kwargs`` as the harness's ``normalize_gen_kwargs`` gives them.

    Raises:
        BenchmarkError: if the task asks for something that the server cannot do.
    """
    rest = dict(settings)
    stop, max_tokens = rest.pop("until"), rest.pop("max_gen_toks")
    temperature = 1.0 if rest.pop("do_sample") else 0.0
    temperature = rest.pop("temperature", temperature)
    if rest.pop("num_beams", 1) != 1:
        raise BenchmarkError(
            f"num_beams: {settings['num_beams']}: the server does not search; "
            "give --gen_kwargs num_beams=1"
        )
    unknown = sorted(rest.keys() - SAMPLING)
    if unknown:
        raise BenchmarkError(
            f"{unknown[0]}: {rest[unknown[0]]!r}: the server knows no such setting; known are "
            f"until, max_gen_toks, do_sample, temperature, {', '.join(sorted(SAMPLING))}"
        )
    return Generation(max_tokens, temperature, tuple(stop), rest)


def seed_of(seed: int, context: str, settings: Mapping[str, Any], *, repeat: int) -> int:
    """The seed of one answer: another for each repeat, the same in every process and order."""
    about = json.dumps([seed, context, dict(settings), repeat], sort_keys=True)
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:4], "big") >> 1
