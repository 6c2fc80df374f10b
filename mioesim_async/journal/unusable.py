"""What keeps a journal from being used, and the error that says so."""

from __future__ import annotations

from attrs import frozen

from mioesim_async.errors import ConfigurationError, JournalUnavailable, MioEsimError

__all__ = ["UNREADABLE", "Fault", "Unusable", "refusal"]


@frozen
class Fault:
    """Why a journal can't be used, and what to do about it.

    Attributes:
        what: What happened.
        advice: What to do.
        is_lasting: Whether the place itself is wrong, so that trying again can't help.
    """

    what: str
    advice: str
    is_lasting: bool = False


class Unusable(Exception):
    """A journal can't be used.

    Attributes:
        fault: Why, and what to do.
    """

    def __init__(self, fault: Fault) -> None:
        """Keep the fault."""
        super().__init__(fault.what)
        self.fault = fault


UNREADABLE = Fault(
    "an entry in it can't be read",
    "compare the vendor's list of orders with yours before you move it away",
)


def refusal(place: str, fault: Fault, *, was_asked_to_settle: bool) -> MioEsimError:
    """Return the error of a journal that can't be used.

    Args:
        place: Where the journal is, such as ``at /var/lib/shop/orders.db``.
        fault: Why it can't be used.
        was_asked_to_settle: Whether it should have recorded an outcome; otherwise nothing was sent.
    """
    if fault.is_lasting:
        return ConfigurationError(
            f"the order journal can't be {place}: {fault.what}; {fault.advice}"
        )
    came_to = "" if was_asked_to_settle else "; nothing was sent, try later"
    return JournalUnavailable(
        f"the order journal {place} can't be used now{came_to}: {fault.what}; {fault.advice}"
    )
