"""The two errors that commands turn into exit codes.

    UserError            exit code 2: something the user gave is wrong (a recipe, a path, a port, …)
      SettingsError      foundation.settings
      CorpusError        corpora.errors
      …                  each package derives its own
    JobError             exit code 1: what was rightly asked for failed while it ran

A message is one line. That of a UserError names the field, the value and the fix.
"""


class UserError(ValueError):
    """Bad usage or configuration. The message is one line that a person can act on."""


class JobError(RuntimeError):
    """A job that was rightly asked for failed while it ran. The message is one line."""
