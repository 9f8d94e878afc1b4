"""The rules of talking to the reward server, without doing any of it.

An ``Exchange`` is a generator: it yields a request to send or a pause to make, is given what came
of it, and ends with an answer or an error. The blocking and the asynchronous client perform the
same exchanges, so neither can learn a rule that the other lacks: when a request is sent again, when
it is halved, when its time is up, and what the answers are worth together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import httpx
from pydantic import ValidationError

from reward_server import errors
from reward_server.errors import (
    BodyTooLarge,
    CandidateTooLong,
    DeadlineExceeded,
    FingerprintMismatch,
    InvalidRequest,
    LimitExceeded,
    RenderingFailed,
    RewardServerError,
    RewardServerUnreachable,
    UnsupportedInput,
)
from reward_server.protocol import (
    GroupResult,
    ModelInfo,
    Problem,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Wire,
)

ERRORS_BY_CODE: dict[str, type[RewardServerError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RewardServerError)
}

TOO_BIG = (BodyTooLarge, LimitExceeded)
"""What the server says of a request whose halves it may take."""

REFUSALS = (*TOO_BIG, CandidateTooLong, InvalidRequest, RenderingFailed, UnsupportedInput)
"""What the server says of a group; its other errors concern every group."""

GRAIN_SECONDS = 0.001
"""The wire gives deadlines in milliseconds: what is less than one is nothing."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The effect of waiting, in seconds."""

    seconds: float


T = TypeVar("T")
W = TypeVar("W", bound=Wire)
Outcome = httpx.Response | httpx.RequestError
Steps = Generator[httpx.Request | Pause, Outcome | None, T]
Exchange = Steps[httpx.Response]
OnRefused = Literal["raise", "keep"]


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


PATIENCE = RetryPolicy(attempts=200, budget_seconds=1_800.0, longest_pause_seconds=30.0)
"""Of a job that outlives a restart of the server and waits out a quota: half an hour for one
request."""

FIRST_CONTACT = RetryPolicy(attempts=2)
"""Of whoever meets a server: a wrong URL must not take half an hour to be noticed."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment after which a caller has no use for an answer."""

    seconds: float = math.inf
    """What the caller gave, for messages."""

    ends: float = math.inf
    """Time of ``clock``."""

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline that many seconds from now; ``None`` for none."""
        return NEVER if seconds is None else cls(seconds, clock() + seconds, clock)

    def left(self) -> float:
        """Seconds until it passes; infinite where there is none."""
        return self.ends - self.clock()

    def has_passed(self) -> bool:
        return self.left() < GRAIN_SECONDS

    def milliseconds(self) -> int | None:
        """What is left of it as the wire says it."""
        return None if math.isinf(self.ends) else max(1, int(1000 * self.left()))


NEVER = Deadline()


@dataclass(frozen=True, slots=True)
class Refused:
    """A group that the server would not score, and why."""

    group: ScoreGroup
    model: str
    error: RewardServerError


Part = ScoreResponse | Refused


@dataclass(frozen=True, slots=True)
class StreamedGroup:
    """What became of one group of a stream."""

    index: int
    """Place of the group among those that were given, counted from 0."""

    outcome: GroupResult | RewardServerError
    """Its results; or the refusal, where the caller asked to keep refusals."""

    model: str
    fingerprint: str | None
    """``None`` for a refusal."""

    @property
    def result(self) -> GroupResult:
        """The results of the group.

        Raises:
            RewardServerError: if the server refused it.
        """
        if isinstance(self.outcome, RewardServerError):
            raise self.outcome
        return self.outcome


class Assembly:
    """Numbers what became of the groups of a job and holds all of it to one model."""

    def __init__(self) -> None:
        self._count = 0
        self._fingerprint: str | None = None

    def add(self, part: Part) -> list[StreamedGroup]:
        """The next groups of the job.

        Raises:
            FingerprintMismatch: if another model answered than before.
        """
        outcomes: Sequence[GroupResult | RewardServerError]
        if isinstance(part, Refused):
            outcomes, fingerprint = [part.error], None
        else:
            outcomes, fingerprint = part.groups, self._hold(part.fingerprint)
        first, self._count = self._count, self._count + len(outcomes)
        return [
            StreamedGroup(index, outcome, part.model, fingerprint)
            for index, outcome in enumerate(outcomes, start=first)
        ]

    def _hold(self, fingerprint: str) -> str:
        before, self._fingerprint = self._fingerprint or fingerprint, fingerprint
        if before != fingerprint:
            both = ", ".join(sorted((before, fingerprint)))
            raise FingerprintMismatch(
                f"the served model changed during the job ({both}); score it again"
            )
        return fingerprint


def join(answers: Iterable[Part]) -> list[GroupResult]:
    """The results of one job from the answers to its requests, in order.

    Raises:
        FingerprintMismatch: if the served model changed between them.
    """
    assembly = Assembly()
    return [group.result for answer in answers for group in assembly.add(answer)]


def scoring(
    job: ScoreRequest,
    build: Callable[[ScoreRequest], httpx.Request],
    policy: RetryPolicy,
    *,
    deadline: Deadline = NEVER,
    on_refused: OnRefused = "raise",
) -> Steps[list[Part]]:
    """Scores one request. Where that is too big for the server, each half of its groups.

    A request of n groups ends in at most 2n - 1 requests, retries aside. With ``on_refused`` as
    ``keep`` it is halved for any refusal, until the groups that the server takes have their
    rewards and each of the others its error.

    Args:
        job: the request.
        build: the request of its halves, made anew for every attempt.
        policy: when to try again.
        deadline: of the request with all its halves and attempts.
        on_refused: what to do about a group that the server refuses.

    Raises:
        RewardServerError: what the server answered, as the class of its code.
        RewardServerUnreachable: if there was no answer.
    """
    try:
        response = yield from exchange(lambda: build(job), policy, deadline)
        return [read_scores(job, response)]
    except REFUSALS as error:
        if on_refused == "raise" and (len(job.groups) == 1 or not isinstance(error, TOO_BIG)):
            raise
        if len(job.groups) == 1:
            return [Refused(job.groups[0], job.model, error)]
    parts: list[Part] = []
    for half in halves(job):
        parts += yield from scoring(half, build, policy, deadline=deadline, on_refused=on_refused)
    return parts


def halves(job: ScoreRequest) -> tuple[ScoreRequest, ScoreRequest]:
    """The two requests that make up one of several groups."""
    middle = len(job.groups) // 2
    return (
        job.model_copy(update={"groups": job.groups[:middle]}),
        job.model_copy(update={"groups": job.groups[middle:]}),
    )


def exchange(
    build: Callable[[], httpx.Request], policy: RetryPolicy, deadline: Deadline = NEVER
) -> Exchange:
    """Sends a request until it succeeds, fails for good, or policy or deadline end it.

    Args:
        build: the request of each attempt; it can carry what is left of the deadline.
        policy: when to try again.
        deadline: after it nothing is sent, and no pause runs into it.

    Raises:
        RewardServerError: what the server answered, as the class of its code.
        DeadlineExceeded: if the server or this side ran out of time.
        RewardServerUnreachable: if there was no answer.
    """
    waited, attempt = 0.0, 0
    while not deadline.has_passed():
        attempt += 1
        request = build()
        outcome = yield request
        assert outcome is not None
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        if isinstance(outcome, httpx.TimeoutException) and deadline.has_passed():
            break
        seconds = policy.pause(attempt, waited=waited, asked_for=retry_after(outcome))
        if seconds is None or not is_worth_retrying(outcome):
            raise failure(request, outcome)
        if deadline.left() - seconds < GRAIN_SECONDS:
            raise too_late(deadline) from failure(request, outcome)
        yield Pause(seconds)
        waited += seconds
    raise too_late(deadline)


def too_late(deadline: Deadline) -> DeadlineExceeded:
    """The error of a request whose time is up on this side."""
    return DeadlineExceeded(
        f"deadline_seconds: no answer within {deadline.seconds:g} s; give it more time or send "
        "fewer groups"
    )


def is_worth_retrying(outcome: Outcome) -> bool:
    """Whether the same request may succeed later.

    Scoring changes nothing, so a request that a broken connection lost is safe to repeat. One that
    ran into the answer timeout is not repeated: the server is still busy with it or with those
    before it, and a second copy would only wait behind the first. An answer of a proxy in front
    of the server is judged by its status.
    """
    if not isinstance(outcome, httpx.Response):
        return not isinstance(outcome, httpx.ReadTimeout)
    problem = read_problem(outcome)
    if problem is not None and problem.code in ERRORS_BY_CODE:
        return ERRORS_BY_CODE[problem.code].retryable
    return outcome.status_code in (429, 502, 503, 504)


def retry_after(outcome: Outcome) -> float:
    """Seconds that the answer asks to wait; 0 where it asks for none or names a date."""
    header = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(header) if header.isdecimal() else 0.0


def read_problem(response: httpx.Response) -> Problem | None:
    """The problem document of an answer, if it is one."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def failure(
    request: httpx.Request, outcome: Outcome
) -> RewardServerError | RewardServerUnreachable:
    """The error that an unsuccessful outcome stands for."""
    server = f"{request.url.scheme}://{request.url.netloc.decode()}"
    if isinstance(outcome, httpx.RequestError):
        reason = str(outcome) or type(outcome).__name__
        return RewardServerUnreachable(
            f"server: no answer from {server} ({reason}); start one with "
            "`medpref serve reward --model PATH` or give the URL of one that runs"
        )
    problem = read_problem(outcome)
    if problem is None:
        # A proxy has a limit of its own; to its caller it is one as the server's is.
        kind = BodyTooLarge if outcome.status_code == BodyTooLarge.status else RewardServerError
        return kind(
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
        FingerprintMismatch: if they are of another model than the request expects.
        RewardServerError: if the answer is not one, or not to this request.
    """
    scores = _read(ScoreResponse, response)
    asked = [(group.id, len(group.candidates)) for group in request.groups]
    if asked != [(group.id, len(group.results)) for group in scores.groups]:
        raise RewardServerError(f"{response.url}: the answer's groups are not those of the request")
    if request.expected_fingerprint not in (None, scores.fingerprint):
        raise FingerprintMismatch(
            f"expected_fingerprint: {request.expected_fingerprint!r}, the rewards are of "
            f"{scores.fingerprint!r}"
        )
    return scores


def _read(kind: type[W], response: httpx.Response) -> W:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise RewardServerError(
            f"{response.url}: not an answer of this protocol: {error.errors()[0]['msg']}"
        ) from None
