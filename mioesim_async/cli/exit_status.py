"""Exit statuses of the command line."""

from mioesim_async.errors import MioEsimError

__all__ = ["FAILED", "INTERRUPTED", "NOT_LOGGED_IN", "OK", "UNKNOWN", "USAGE", "NotLoggedIn"]

OK = 0
FAILED = 1
USAGE = 2
NOT_LOGGED_IN = 3
UNKNOWN = 4
"""A purchase may have happened, or the order could not be read: check before you repeat it."""
INTERRUPTED = 130


class NotLoggedIn(MioEsimError):
    """The login failed, for any reason."""
