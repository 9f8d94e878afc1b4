"""What can go wrong with an evaluation job.

UserError            something the user gave is wrong: exit code 2
  BenchmarkError     a flag, a set that lacks what a benchmark needs
    NothingScored    a set of which no group can be in a score
  ScoresError        a file of stored scores
JobError             a job failed on the way: exit code 1
  EvaluationFailed   an endpoint stopped answering; what was scored is kept
"""

from __future__ import annotations

from foundation.errors import JobError, UserError


class BenchmarkError(UserError):
    """A job cannot be begun. The message names the flag or file, the value and the fix."""


class NothingScored(BenchmarkError):
    """No group has all its rewards and a place in the score."""


class ScoresError(UserError):
    """Stored scores cannot be used. The message names the file, the line and the field."""


class EvaluationFailed(JobError):
    """A job failed on the way. What was scored is kept, and the message says how to go on."""
