"""What can go wrong with the policy.

    UserError                     something the user gave is wrong: exit code 2
      PolicySetupError            a model folder, a port, an adapter or its canaries
      PolicyServerUnreachable     nobody answers at the given URL
    JobError                      a job failed on the way: exit code 1
      PolicyError
        PolicyRequestFailed       the server refused a request, or failed at it to the end
        PolicyServerFailed        the server crashed more often than allowed
        DeployRefused             a version did not prove itself and was rolled back

Every message is one line, and every error survives pickling, since actors raise them.
"""

from __future__ import annotations

from foundation.errors import JobError, UserError


class PolicySetupError(UserError):
    """What the server was given cannot be served. The message names field, value and fix."""


class PolicyServerUnreachable(UserError):
    """No connection to the policy server, retries included."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"policy server {url}: unreachable ({reason}); "
            "start one with `medpref serve policy`, or correct the URL"
        )
        self.url = url
        self.reason = reason

    def __reduce__(self) -> tuple[type[PolicyServerUnreachable], tuple[str, str]]:
        return type(self), (self.url, self.reason)


class PolicyError(JobError):
    """A job on the policy failed; nothing the user gave is known to be wrong."""


class PolicyRequestFailed(PolicyError):
    """A request failed for good. ``status`` is ``None`` where no usable answer came."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PolicyServerFailed(PolicyError):
    """The server crashed more often than its configuration allows."""


class DeployRefused(PolicyError):
    """A version is not served: it could not be loaded, or did not prove itself."""
