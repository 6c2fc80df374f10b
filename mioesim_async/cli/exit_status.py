"""Exit statuses of the command line; which error has which is in ``transport/failures.py``."""

from mioesim_async.errors import MioEsimError

__all__ = [
    "ENDED_EARLY",
    "FAILED",
    "INTERRUPTED",
    "NOT_LOGGED_IN",
    "OK",
    "UNKNOWN",
    "USAGE",
    "EndedEarly",
]

OK = 0
FAILED = 1
USAGE = 2
NOT_LOGGED_IN = 3
"""The login was refused."""
UNKNOWN = 4
"""Something may have been bought, or was bought and not read back: look before you repeat."""
ENDED_EARLY = 5
"""The host was not reached, or the command ended before it was through."""
INTERRUPTED = 130


class EndedEarly(MioEsimError):
    """A command ended before it was through.

    Attributes:
        exit_status: What it ends with.
    """

    def __init__(self, exit_status: int, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.exit_status = exit_status
