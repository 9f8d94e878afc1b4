"""The records of the audit log: what one line says of one request, and how contents are named.

A text is named by its sha256 and is in a record only where that was asked for. Reading and making
records needs no server to be installed; writing them is the business of ``audit``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from pydantic import FiniteFloat

from reward_server.errors import RewardServerError
from reward_server.protocol import (
    CandidateResult,
    ItemErrorCode,
    Lane,
    OnOverflow,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Wire,
)
from reward_server.scorer import RawInput, RawRequest, RawScored


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and what came of it."""

    request_id: str
    caller: str
    """Name of the key."""

    route: str
    request: ScoreRequest | RawRequest
    outcome: ScoreResponse | RawScored | RewardServerError
    seconds: float
    """From arrival to outcome."""

    model: str
    """Name of the model that scored; of the one that was asked for, where none did."""

    fingerprint: str | None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    """Of the outcome."""


class AuditedInput(Wire):
    """One input of a request and its result, if the request has results."""

    content: str
    """Hex sha256 of what was scored, as :func:`content_hash` defines it."""

    tokens: int | None = None
    truncated_tokens: int | None = None
    reward: FiniteFloat | None = None
    error: ItemErrorCode | None = None
    sent: dict[str, Any] | None = None
    """An input that its caller rendered, as it was sent; only with text."""


class AuditedGroup(Wire):
    """One group of a request."""

    candidates: tuple[AuditedInput, ...]
    sent: ScoreGroup | None = None
    """The group as it was sent, the caller's name for it included; only with text."""


class AuditRecord(Wire):
    """One line of the log."""

    time: datetime
    request_id: str
    caller: str
    route: str
    model: str
    fingerprint: str | None = None
    lane: Lane
    on_overflow: OnOverflow
    milliseconds: float
    status: int
    """HTTP status of the native wire; a foreign wire may have had another to say the same."""

    code: str | None = None
    """Name of the problem, where the request was refused as a whole."""

    groups: tuple[AuditedGroup, ...] = ()
    inputs: tuple[AuditedInput, ...] = ()
    """In place of groups, where the caller rendered the inputs."""


def content_hash(group: ScoreGroup, index: int) -> str:
    """Hex sha256 over all that a reward is given to: messages, one candidate, and the reference.

    The bytes are compact JSON ``[[[role, content], …], reference]`` in UTF-8, a line feed, and the
    candidate. The caller's name for the group does not count.
    """
    return content_hashes(group)[index]


def content_hashes(group: ScoreGroup) -> list[str]:
    """:func:`content_hash` of every candidate, reading the conversation once."""
    messages = [[message.role, message.content] for message in group.messages]
    shared = hashlib.sha256(_compact([messages, group.reference]) + b"\n")
    digests = [shared.copy() for _ in group.candidates]
    for each, candidate in zip(digests, group.candidates, strict=True):
        each.update(candidate.encode())
    return [each.hexdigest() for each in digests]


def describe(entry: Entry, *, include_text: bool) -> AuditRecord:
    """The record of a request."""
    request, outcome = entry.request, entry.outcome
    refusal = outcome if isinstance(outcome, RewardServerError) else None
    is_raw = isinstance(request, RawRequest)
    return AuditRecord(
        time=entry.time,
        request_id=entry.request_id,
        caller=entry.caller,
        route=entry.route,
        model=entry.model,
        fingerprint=entry.fingerprint,
        lane=request.lane,
        on_overflow=request.on_overflow,
        milliseconds=round(1000 * entry.seconds, 3),
        status=refusal.status if refusal else 200,
        code=refusal.code if refusal else None,
        groups=() if is_raw else _groups(entry, include_text=include_text),
        inputs=_inputs(entry, include_text=include_text) if is_raw else (),
    )


def _groups(entry: Entry, *, include_text: bool) -> tuple[AuditedGroup, ...]:
    assert isinstance(entry.request, ScoreRequest)
    groups = entry.request.groups
    scored = entry.outcome.groups if isinstance(entry.outcome, ScoreResponse) else ()
    results = [group.results for group in scored] or [()] * len(groups)
    return tuple(
        AuditedGroup(
            candidates=tuple(
                _audited(content, result, sent=None)
                for content, result in zip_longest(content_hashes(group), of_group)
            ),
            sent=group if include_text else None,
        )
        for group, of_group in zip(groups, results, strict=True)
    )


def _inputs(entry: Entry, *, include_text: bool) -> tuple[AuditedInput, ...]:
    assert isinstance(entry.request, RawRequest)
    results = entry.outcome.results if isinstance(entry.outcome, RawScored) else ()
    return tuple(
        _audited(_raw_hash(given), result, sent=_sent(given) if include_text else None)
        for given, result in zip_longest(entry.request.inputs, results)
    )


def _audited(
    content: str, result: CandidateResult | None, *, sent: dict[str, Any] | None
) -> AuditedInput:
    if result is None:
        return AuditedInput(content=content, sent=sent)
    return AuditedInput(
        content=content,
        tokens=result.tokens,
        truncated_tokens=result.truncated_tokens,
        reward=result.reward,
        error=result.error.code if result.error else None,
        sent=sent,
    )


def _sent(given: RawInput) -> dict[str, Any]:
    return {
        "text": given.text,
        "pair": given.pair,
        "ids": given.ids,
        "add_special_tokens": given.add_special_tokens,
    }


def _raw_hash(given: RawInput) -> str:
    return hashlib.sha256(_compact(_sent(given))).hexdigest()


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
