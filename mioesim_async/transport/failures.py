"""What each error means, in one table: repeated or not, whose fault, bought or not, exit status.

Whether it is repeated depends on the safety of the call, too (``ACTIONS``): a purchase is never
sent again once a byte may have left.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

from attrs import evolve, frozen

from mioesim_async import errors
from mioesim_async.wire.endpoints import LOGIN, REFUSED_FOR_MONEY, Safety

__all__ = [
    "ACTIONS",
    "MEANINGS",
    "Action",
    "Bought",
    "Failure",
    "Fault",
    "Meaning",
    "classify",
    "is_fatal",
    "is_outage",
    "meaning_of",
    "was_placed",
]


class Failure(enum.Enum):
    """What an attempt came to, as far as repeating it is concerned."""

    NOT_SENT = "no connection"
    LOST = "broken or silent after a byte may have left"
    SERVER_ERROR = "5xx"
    RATE_LIMITED = "429"
    UNREADABLE = "a reply that cannot be read"
    TOO_LARGE = "a reply over the limit"
    STATUS = "3xx or another 4xx"
    REFUSED = "a code that says that nothing was done"
    UNCLEAR = "a code that does not say so"


class Action(enum.Enum):
    """What follows an attempt."""

    RETRY = "retry"
    RAISE = "raise"
    UNKNOWN = "raise OutcomeUnknown"
    DEADLINE = "raise DeadlineExceeded"


_READ = {
    Failure.NOT_SENT: Action.RETRY,
    Failure.LOST: Action.RETRY,
    Failure.SERVER_ERROR: Action.RETRY,
    Failure.RATE_LIMITED: Action.RETRY,
    Failure.UNREADABLE: Action.RETRY,
    Failure.TOO_LARGE: Action.RAISE,
    Failure.STATUS: Action.RAISE,
    Failure.REFUSED: Action.RAISE,
    Failure.UNCLEAR: Action.RAISE,
}
_ONCE = {
    Failure.NOT_SENT: Action.RETRY,
    Failure.LOST: Action.UNKNOWN,
    Failure.SERVER_ERROR: Action.UNKNOWN,
    Failure.RATE_LIMITED: Action.RAISE,
    Failure.UNREADABLE: Action.UNKNOWN,
    Failure.TOO_LARGE: Action.UNKNOWN,
    # A gateway may answer so after the call took effect.
    Failure.STATUS: Action.UNKNOWN,
    Failure.REFUSED: Action.RAISE,
    Failure.UNCLEAR: Action.UNKNOWN,
}
ACTIONS: Mapping[Safety, Mapping[Failure, Action]] = {
    Safety.READ: _READ,
    Safety.AUTH: _READ,
    Safety.WRITE: _ONCE,
    Safety.MONEY: _ONCE,
}


class Fault(enum.Enum):
    """Whose fault it is, and so what it says of other calls."""

    HOST = "the host's: it may pass"
    CALL = "the call's own, or of what it is about: another may do better"
    REQUEST = "the way the call was made: it says nothing of what the call is about"
    ACCOUNT = "the account's or a setting's: no other call can do better"


class Bought(enum.Enum):
    """What an error says of the purchase that it ended."""

    NO = "nothing was bought, though it was sent"
    NOT_IF_UNSENT = "nothing was bought if it was never sent; else nobody knows"
    AS_IT_SAYS = "what the error's own ``was_placed`` says"


@frozen
class Meaning:
    """What an error means.

    Attributes:
        failure: What the attempt came to. ``classify`` refines it: an attempt that was not sent
            is ``NOT_SENT``, and a code that proves nothing of a purchase is ``UNCLEAR``.
        fault: Whose fault it is.
        exit_status: What a command ends with: 1 failed, 2 wrong usage, 3 the login was refused,
            4 may have been bought, 5 the host was not reached.
        bought: What it says of a purchase; ``was_placed`` reads it.
    """

    failure: Failure
    fault: Fault
    exit_status: int = 1
    bought: Bought = Bought.NOT_IF_UNSENT


AT_LOGIN = "at login"
SERVER = "5xx"

_UNREADABLE = Meaning(Failure.UNREADABLE, Fault.HOST, 5)
_LOST = Meaning(Failure.LOST, Fault.HOST, 5)
_RAISED = Meaning(Failure.REFUSED, Fault.CALL)
_HOPELESS = Meaning(Failure.REFUSED, Fault.ACCOUNT)
_REFUSED = evolve(_RAISED, bought=Bought.NO)
_BADLY_ASKED = evolve(_REFUSED, fault=Fault.REQUEST)
_LOGIN_REFUSED = evolve(_REFUSED, fault=Fault.ACCOUNT, exit_status=3)
_UNCLEAR = evolve(_RAISED, exit_status=4, bought=Bought.AS_IT_SAYS)

MEANINGS: Mapping[tuple[type[errors.MioEsimError], str], Meaning] = {
    (errors.MioEsimError, ""): _RAISED,
    (errors.ConfigurationError, ""): evolve(_HOPELESS, exit_status=2),
    (errors.InvalidRequest, ""): Meaning(Failure.REFUSED, Fault.REQUEST, 2),
    (errors.ClientClosed, ""): _HOPELESS,
    (errors.WrongLoop, ""): _HOPELESS,
    # In a sweep the deadline starts with the slot: what took so long is the host.
    (errors.DeadlineExceeded, ""): Meaning(Failure.REFUSED, Fault.HOST, 5),
    (errors.RateLimited, ""): Meaning(Failure.RATE_LIMITED, Fault.HOST, 5, Bought.NO),
    (errors.ProtocolError, ""): Meaning(Failure.UNREADABLE, Fault.CALL),
    (errors.ProtocolError, "html"): _UNREADABLE,
    (errors.ProtocolError, "empty"): _UNREADABLE,
    (errors.ProtocolError, "truncated"): _UNREADABLE,
    (errors.ProtocolError, "malformed"): _UNREADABLE,
    (errors.ProtocolError, "too_large"): Meaning(Failure.TOO_LARGE, Fault.CALL),
    (errors.OutcomeUnknown, ""): _UNCLEAR,
    (errors.JournalUnavailable, ""): evolve(_HOPELESS, bought=Bought.AS_IT_SAYS),
    (errors.OrderIncomplete, ""): _UNCLEAR,
    (errors.DuplicateOrder, ""): evolve(_RAISED, bought=Bought.AS_IT_SAYS),
    (errors.SpendLimitReached, ""): _RAISED,
    (errors.TransportError, ""): _LOST,
    (errors.ConnectError, ""): Meaning(Failure.NOT_SENT, Fault.HOST, 5),
    (errors.ConnectionLost, ""): _LOST,
    (errors.AttemptTimeout, ""): _LOST,
    # A status such as 404 or 414 belongs to its batch: asking again would not help.
    (errors.HttpStatusError, ""): Meaning(Failure.STATUS, Fault.CALL),
    (errors.HttpStatusError, SERVER): Meaning(Failure.SERVER_ERROR, Fault.HOST, 5),
    (errors.ApiError, ""): _REFUSED,
    (errors.AuthenticationError, ""): _LOGIN_REFUSED,
    # After a good login it is this endpoint that is closed, or one value that is signed otherwise.
    (errors.PermissionDenied, ""): _REFUSED,
    (errors.PermissionDenied, AT_LOGIN): _LOGIN_REFUSED,
    (errors.SignatureError, ""): _BADLY_ASKED,
    (errors.SignatureError, AT_LOGIN): _LOGIN_REFUSED,
    (errors.TokenExpired, ""): _REFUSED,
    (errors.TokenContention, ""): evolve(_LOGIN_REFUSED, exit_status=5),
    (errors.MissingParameter, ""): _BADLY_ASKED,
    (errors.NotFound, ""): _REFUSED,
    (errors.QueryFailed, ""): _BADLY_ASKED,
    (errors.OrderStateError, ""): _REFUSED,
    (errors.NotYourOrder, ""): _REFUSED,
    (errors.PdfFailed, ""): _REFUSED,
}
"""By class, and by what tells errors of one class apart; an empty text stands for all others."""


def meaning_of(error: errors.MioEsimError) -> Meaning:
    """Look an error up: the row of its class, or else of the next class that it is of."""
    for cls in type(error).__mro__:
        for apart in (*_apart(error), ""):
            if (row := MEANINGS.get((cls, apart))) is not None:
                return row
    raise AssertionError("MioEsimError has a row")


def _apart(error: errors.MioEsimError) -> Iterator[str]:
    if error.endpoint == LOGIN.path:
        yield AT_LOGIN
    if isinstance(error, errors.HttpStatusError) and error.status >= 500:
        yield SERVER
    if isinstance(error, errors.ProtocolError):
        yield error.reason


def classify(error: errors.MioEsimError, safety: Safety, *, sent: bool) -> Failure:
    """Say what an attempt's error means for repeating it."""
    failure = meaning_of(error).failure
    if failure is Failure.LOST and not sent:
        return Failure.NOT_SENT
    if isinstance(error, errors.ApiError) and safety is Safety.MONEY:
        return failure if error.code in REFUSED_FOR_MONEY else Failure.UNCLEAR
    return failure


def was_placed(error: errors.MioEsimError, *, sent: bool) -> bool | None:
    """Say what a purchase came to that ended with an error; None where nobody knows.

    Args:
        error: The error.
        sent: Whether a byte of the purchase may have left.
    """
    bought = meaning_of(error).bought
    if bought is Bought.AS_IT_SAYS:
        return error.was_placed
    return None if sent and bought is Bought.NOT_IF_UNSENT else False


def is_fatal(error: errors.MioEsimError) -> bool:
    """Tell whether no other call can do better: a refused login, above all."""
    return meaning_of(error).fault is Fault.ACCOUNT


def is_outage(error: errors.MioEsimError) -> bool:
    """Tell whether an error says that the host, and not the request, is at fault.

    At login, whatever is not fatal stands in the way of every batch.
    """
    if error.endpoint == LOGIN.path:
        return not is_fatal(error)
    if isinstance(error, errors.DeadlineExceeded) and error.last_error is not None:
        return is_outage(error.last_error)
    return meaning_of(error).fault is Fault.HOST
