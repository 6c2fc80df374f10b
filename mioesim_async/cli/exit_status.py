"""Exit statuses of the command line."""

from mioesim_async.errors import MioEsimError

__all__ = ["FAILED", "INTERRUPTED", "NOT_LOGGED_IN", "OK", "UNKNOWN", "USAGE", "NotLoggedIn"]

OK = 0
FAILED = 1
USAGE = 2
NOT_LOGGED_IN = 3
UNKNOWN = 4
"""Something may have been bought, or was bought and not read back: look before you repeat."""
INTERRUPTED = 130


class NotLoggedIn(MioEsimError):
    """The login did not succeed, for whatever reason."""
