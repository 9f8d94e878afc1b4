"""What a client sends, where to, and on which terms.

A job is cut into requests; each of them is an exchange, whose requests are built anew for every
attempt and half, since what is left of the deadline goes with them. Performs none of it.

Imports no torch and no server code beyond the wire types and the errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from foundation.errors import UserError
from reward_server.errors import RewardServerUnreachable
from reward_server.exchange import (
    NEVER,
    Deadline,
    Exchange,
    OnRefused,
    Part,
    RetryPolicy,
    Steps,
    exchange,
    scoring,
)
from reward_server.protocol import Lane, OnOverflow, ScoreGroup, ScoreRequest

Http = httpx.Client | httpx.AsyncClient
"""Only builds requests here."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves.

    Raises:
        UserError: if ``api_key`` cannot be sent in an HTTP header.
    """

    model: str = "default"
    """Name of the reward model on the server."""

    on_overflow: OnOverflow = "error"
    groups_per_request: int = 32
    concurrency: int = 4
    """Requests of one call that are under way together."""

    connect_seconds: float = 5.0
    answer_seconds: float = 600.0
    """Longest silence while the server works on a request; it may be queueing."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)

    candidates_per_request: int = 512
    """A group stays whole, so one with more candidates makes a request of its own."""

    api_key: str | None = field(default=None, repr=False)
    """Sent with every request as a bearer token."""

    lane: Lane = "interactive"
    use_cache: bool = True
    """Whether a reward may be one that the server computed before."""

    deadline_seconds: float | None = None
    """What one call may take, all its requests, attempts and pauses included; in a stream, what
    one request may take. Kept to within one attempt to connect."""

    expected_fingerprint: str | None = None
    """The reward model that must answer, unless the call itself names one."""

    pin: bool = False
    """Without an ``expected_fingerprint``: whether the model that is served at the client's first
    call must answer all later ones."""

    def __post_init__(self) -> None:
        # The error of the HTTP library would quote the key.
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable()):
            raise UserError(
                "api_key: is empty or has characters that no HTTP header can carry; give it in "
                "printable ASCII, without a line break"
            )

    @property
    def timeout(self) -> httpx.Timeout:
        return self.timeout_within(NEVER)

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}

    def timeout_within(self, deadline: Deadline) -> httpx.Timeout:
        """The limits of one attempt that must not outlive ``deadline``."""
        left = max(deadline.left(), 0.0)
        return httpx.Timeout(
            min(self.answer_seconds, left), connect=min(self.connect_seconds, left)
        )


DEFAULTS = ClientOptions()


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all requests of one call."""

    options: ClientOptions
    expected_fingerprint: str | None
    deadline: Deadline | None = None
    """``None`` where each request has its own."""

    on_refused: OnRefused = "raise"

    def requests(self, groups: Iterable[ScoreGroup]) -> Iterator[ScoreRequest]:
        """The requests that make up one job, in order, as they are asked for."""
        batches = cut(
            groups,
            max_groups=self.options.groups_per_request,
            max_candidates=self.options.candidates_per_request,
        )
        for batch in batches:
            yield ScoreRequest(
                model=self.options.model,
                groups=batch,
                on_overflow=self.options.on_overflow,
                expected_fingerprint=self.expected_fingerprint,
                lane=self.options.lane,
                use_cache=self.options.use_cache,
            )

    def score_exchange(self, http: Http, job: ScoreRequest) -> Steps[list[Part]]:
        """Sends one request of the job; what deadline it has of its own begins now."""
        deadline = self.deadline or Deadline.after(self.options.deadline_seconds)

        def build(part: ScoreRequest) -> httpx.Request:
            timed = part.model_copy(update={"deadline_ms": deadline.milliseconds()})
            return http.build_request(
                "POST",
                "/v1/score",
                content=timed.model_dump_json().encode(),
                headers={"content-type": "application/json"},
                timeout=self.options.timeout_within(deadline),
            )

        return scoring(
            job, build, self.options.retry, deadline=deadline, on_refused=self.on_refused
        )


def model_exchange(http: Http, options: ClientOptions) -> Exchange:
    """Asks for the model's description."""
    deadline = Deadline.after(options.deadline_seconds)

    def build() -> httpx.Request:
        path = f"/v1/models/{options.model}"
        return http.build_request("GET", path, timeout=options.timeout_within(deadline))

    return exchange(build, options.retry, deadline)


def cut(
    groups: Iterable[ScoreGroup], *, max_groups: int, max_candidates: int
) -> Iterator[tuple[ScoreGroup, ...]]:
    """The groups of each request, in order, read from ``groups`` as they are asked for.

    A group stays whole, since a pairwise reward compares its candidates with each other: one with
    more than ``max_candidates`` makes a request of its own.
    """
    batch: list[ScoreGroup] = []
    candidates = 0
    for group in groups:
        if batch and candidates + len(group.candidates) > max_candidates:
            yield tuple(batch)
            batch, candidates = [], 0
        batch.append(group)
        candidates += len(group.candidates)
        if len(batch) == max_groups:
            yield tuple(batch)
            batch, candidates = [], 0
    if batch:
        yield tuple(batch)


def parse_url(base_url: str) -> httpx.URL:
    """The URL of a server.

    Raises:
        RewardServerUnreachable: if it is none.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise RewardServerUnreachable(
            f"server: {base_url!r} is not the URL of a server; write it as http://host:port"
        )
    return url
