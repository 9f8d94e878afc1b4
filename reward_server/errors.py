"""What can go wrong between a request and its rewards, and before the first request.

    RewardServerError            500  internal
      UnknownModel               404  unknown_model
      FingerprintMismatch        409  fingerprint_mismatch
      BodyTooLarge               413  body_too_large
      InvalidRequest             422  invalid_request
      LimitExceeded              422  limit_exceeded
      CandidateTooLong           422  candidate_too_long
      RenderingFailed            422  rendering_failed
      Overloaded                 429  overloaded              retryable
      DeviceFailed               503  device_failed           retryable

    foundation.errors.UserError
      ServerStartError           the server cannot start: model, template, head, host, port
      RewardServerUnreachable    a client cannot reach the server

The server answers with the upper tree as problem documents; the client raises the same classes
from them, so a caller catches one set of names on both sides of the wire.
"""

from __future__ import annotations

from typing import ClassVar

from foundation.errors import JobError, UserError


class RewardServerError(JobError):
    """A request that got no rewards. The message is one line without any conversation text.

    Attributes:
        status: HTTP status of the answer.
        code: stable name of the problem.
        title: what the problem is, in a few words.
        retryable: whether the same request may succeed later.
        retry_after: seconds after which to come back, where the server knows.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The server failed"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class UnknownModel(RewardServerError):
    """No model is served under this name."""

    status, code, title = 404, "unknown_model", "No such model"


class FingerprintMismatch(RewardServerError):
    """The caller expects another reward model than the one that is served."""

    status, code, title = 409, "fingerprint_mismatch", "Another reward model is served"


class BodyTooLarge(RewardServerError):
    """The request body has more bytes than the server reads."""

    status, code, title = 413, "body_too_large", "The body is too large"


class InvalidRequest(RewardServerError):
    """The body does not have the shape of the protocol."""

    status, code, title = 422, "invalid_request", "The request is malformed"


class LimitExceeded(RewardServerError):
    """More groups or candidates than the server takes in one request."""

    status, code, title = 422, "limit_exceeded", "The request is too big"


class CandidateTooLong(RewardServerError):
    """A conversation with its candidate has more tokens than the model reads."""

    status, code, title = 422, "candidate_too_long", "A candidate is too long"


class RenderingFailed(RewardServerError):
    """The chat template refuses the conversation."""

    status, code, title = 422, "rendering_failed", "The chat template refuses a conversation"


class Overloaded(RewardServerError):
    """Too much work waits already."""

    status, code, title, retryable = 429, "overloaded", "Too much work waits", True


class DeviceFailed(RewardServerError):
    """The device thread died. The process is about to exit and may be started again."""

    status, code, title, retryable = 503, "device_failed", "The device failed", True


class ServerStartError(UserError):
    """The reward server cannot start. The message names the setting, its value and the fix."""


class RewardServerUnreachable(UserError):
    """No reward server answers at the URL. The message names it and the fix."""
