"""What can go wrong between a request and its rewards, and before the first request.

    RewardServerError            500  internal
      Unauthorized               401  unauthorized
      Forbidden                  403  forbidden
      UnknownModel               404  unknown_model
      FingerprintMismatch        409  fingerprint_mismatch
      ModelInUse                 409  model_in_use
      BodyTooLarge               413  body_too_large
      InvalidRequest             422  invalid_request
      LimitExceeded              422  limit_exceeded
      CandidateTooLong           422  candidate_too_long
      RenderingFailed            422  rendering_failed
      UnsupportedInput           422  unsupported_input
      ModelNotLoaded             422  model_not_loaded
      Overloaded                 429  overloaded              retryable
      QuotaExceeded              429  quota_exceeded          retryable
      DeviceFailed               503  device_failed           retryable
      Draining                   503  draining                retryable
      AuditFailed                503  audit_failed            retryable
      DeadlineExceeded           504  deadline_exceeded

    DeviceOutOfMemory            between engine and batcher; no request ends with it

    foundation.errors.UserError
      CalibrationError           no calibration or canary can be made  (in calibration)
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


class Unauthorized(RewardServerError):
    """The request carries no key that the server knows."""

    status, code, title = 401, "unauthorized", "A key is needed"


class Forbidden(RewardServerError):
    """The key does not open this route."""

    status, code, title = 403, "forbidden", "The key does not allow this"


class UnknownModel(RewardServerError):
    """No model is served under this name."""

    status, code, title = 404, "unknown_model", "No such model"


class BodyTooSlow(RewardServerError):
    """The request body did not arrive in time."""

    status, code, title, retryable = 408, "body_too_slow", "The body came too slowly", True


class FingerprintMismatch(RewardServerError):
    """The caller expects another reward model than the one that is served."""

    status, code, title = 409, "fingerprint_mismatch", "Another reward model is served"


class ModelInUse(RewardServerError):
    """The model cannot go while another model or an alias needs it."""

    status, code, title = 409, "model_in_use", "The model is in use"


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


class UnsupportedInput(RewardServerError):
    """This kind of reward cannot be given to inputs of this form."""

    status, code, title = 422, "unsupported_input", "The model does not take such inputs"


class ModelNotLoaded(RewardServerError):
    """A model that was asked for cannot be loaded; what was served goes on."""

    status, code, title = 422, "model_not_loaded", "The model cannot be loaded"


class Overloaded(RewardServerError):
    """Too much work waits already."""

    status, code, title, retryable = 429, "overloaded", "Too much work waits", True


class QuotaExceeded(RewardServerError):
    """The key has used up its tokens for now."""

    status, code, title, retryable = 429, "quota_exceeded", "The key's quota is used up", True


class DeviceFailed(RewardServerError):
    """The device failed. The process is about to exit and may be started again."""

    status, code, title, retryable = 503, "device_failed", "The device failed", True


class Draining(RewardServerError):
    """The server is going down or the model is being replaced; another one answers."""

    status, code, title, retryable = 503, "draining", "The server is going down", True


class AuditFailed(RewardServerError):
    """The audit log that the server must keep cannot be written."""

    status, code, title, retryable = 503, "audit_failed", "The audit log cannot be written", True


class DeadlineExceeded(RewardServerError):
    """The caller's deadline passed before the rewards were computed."""

    status, code, title = 504, "deadline_exceeded", "The deadline passed"


class DeviceOutOfMemory(Exception):
    """A batch did not fit into the device's memory; a smaller one may. Never leaves the server."""


class ServerStartError(UserError):
    """The reward server cannot start. The message names the setting, its value and the fix."""


class RewardServerUnreachable(UserError):
    """No reward server answers at the URL. The message names it and the fix."""
