"""Errors of the loop.

UserError (foundation.errors)
  RunError         a run folder cannot be used as asked
"""

from foundation.errors import UserError


class RunError(UserError):
    """A run folder cannot be used as asked. The message names it and the fix."""


def first_failure(failures: BaseExceptionGroup[Exception]) -> Exception:
    """The first error that ended a group of tasks: what a person has to know."""
    failure: Exception | BaseExceptionGroup[Exception] = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
