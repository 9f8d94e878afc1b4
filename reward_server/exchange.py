"""The rules of talking to the reward server, without doing any of it.

An ``Exchange`` is a generator: it yields a request to send or a pause to make, is given what came
of it, and ends with an answer or an error. The blocking and the asynchronous client perform the
same exchanges, so neither can learn a rule that the other lacks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError

from reward_server.errors import (
    BodyTooLarge,
    CandidateTooLong,
    DeviceFailed,
    FingerprintMismatch,
    InvalidRequest,
    LimitExceeded,
    Overloaded,
    RenderingFailed,
    RewardServerError,
    RewardServerUnreachable,
    UnknownModel,
)
from reward_server.protocol import (
    GroupResult,
    ModelInfo,
    Problem,
    ScoreRequest,
    ScoreResponse,
    Wire,
)

ERRORS_BY_CODE = {
    kind.code: kind
    for kind in (
        BodyTooLarge,
        CandidateTooLong,
        DeviceFailed,
        FingerprintMismatch,
        InvalidRequest,
        LimitExceeded,
        Overloaded,
        RenderingFailed,
        UnknownModel,
    )
}


@dataclass(frozen=True, slots=True)
class Pause:
    """The effect of waiting, in seconds."""

    seconds: float


W = TypeVar("W", bound=Wire)
Outcome = httpx.Response | httpx.TransportError
Exchange = Generator[httpx.Request | Pause, Outcome | None, httpx.Response]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to come back, and when to give up."""

    attempts: int = 8
    """Requests sent at most, the first included."""

    budget_seconds: float = 120.0
    """Pauses of one request in total."""

    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 15.0

    def pause(self, attempt: int, *, waited: float, asked_for: float) -> float | None:
        """Seconds to wait after failed ``attempt``, counted from 1; ``None`` to give up.

        The pause doubles from attempt to attempt and is never shorter than what the server asked
        for. ``waited`` is the sum of the pauses so far.
        """
        doubled: float = min(
            self.first_pause_seconds * 2 ** (attempt - 1), self.longest_pause_seconds
        )
        seconds = max(doubled, asked_for)
        if attempt >= self.attempts or waited + seconds > self.budget_seconds:
            return None
        return seconds


def is_worth_retrying(outcome: Outcome) -> bool:
    """Whether the same request may succeed later.

    Scoring changes nothing, so a request that a broken connection lost is safe to repeat. One that
    ran into the answer timeout is not repeated: the server is still busy with it or with those
    before it, and a second copy would only wait behind the first.
    """
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (429, 502, 503, 504)
    return not isinstance(outcome, httpx.ReadTimeout)


def exchange(request: httpx.Request, policy: RetryPolicy) -> Exchange:
    """Sends ``request`` until it succeeds, fails for good or the policy gives up.

    Raises:
        RewardServerError: what the server answered, as the class of its code.
        RewardServerUnreachable: if there was no answer.
    """
    waited, attempt = 0.0, 0
    while True:
        attempt += 1
        outcome = yield request
        assert outcome is not None
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        seconds = policy.pause(attempt, waited=waited, asked_for=retry_after(outcome))
        if seconds is None or not is_worth_retrying(outcome):
            raise failure(request, outcome)
        yield Pause(seconds)
        waited += seconds


def retry_after(outcome: Outcome) -> float:
    """Seconds that the answer asks to wait; 0 where it asks for none or names a date."""
    header = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(header) if header.isdecimal() else 0.0


def failure(
    request: httpx.Request, outcome: Outcome
) -> RewardServerError | RewardServerUnreachable:
    """The error that an unsuccessful outcome stands for."""
    server = f"{request.url.scheme}://{request.url.netloc.decode()}"
    if isinstance(outcome, httpx.TransportError):
        reason = str(outcome) or type(outcome).__name__
        return RewardServerUnreachable(
            f"server: no answer from {server} ({reason}); start one with "
            "`medpref serve reward --model PATH` or give the URL of one that runs"
        )
    try:
        problem = Problem.model_validate_json(outcome.content)
    except ValidationError:
        return RewardServerError(
            f"{server} answered {outcome.status_code} without a problem document; "
            "is it a reward server?"
        )
    kind = ERRORS_BY_CODE.get(problem.code, RewardServerError)
    asked_for = retry_after(outcome)
    return kind(problem.detail, retry_after=int(asked_for) if asked_for else None)


def read_model(response: httpx.Response) -> ModelInfo:
    """The description of a model.

    Raises:
        RewardServerError: if the answer is not one.
    """
    return _read(ModelInfo, response)


def read_scores(request: ScoreRequest, response: httpx.Response) -> ScoreResponse:
    """The rewards of ``request`` in its answer.

    Raises:
        RewardServerError: if the answer is not one, or not to this request.
    """
    scores = _read(ScoreResponse, response)
    asked = [(group.id, len(group.candidates)) for group in request.groups]
    if asked != [(group.id, len(group.results)) for group in scores.groups]:
        raise RewardServerError(f"{response.url}: the answer's groups are not those of the request")
    return scores


def join(answers: Sequence[ScoreResponse]) -> list[GroupResult]:
    """The results of one job from the answers to its requests, in order.

    Raises:
        FingerprintMismatch: if the served model changed between them.
    """
    fingerprints = sorted({answer.fingerprint for answer in answers})
    if len(fingerprints) > 1:
        raise FingerprintMismatch(
            f"the served model changed during the job ({', '.join(fingerprints)}); score it again"
        )
    return [group for answer in answers for group in answer.groups]


def _read(kind: type[W], response: httpx.Response) -> W:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise RewardServerError(
            f"{response.url}: not an answer of this protocol: {error.errors()[0]['msg']}"
        ) from None
