"""Errors of data: a file that is missing, empty or malformed, a record without a needed field."""

from foundation.errors import UserError


class CorpusError(UserError):
    """A data file or record cannot be used. The message names file, line, field and fix."""
