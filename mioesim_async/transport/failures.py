"""What each error means: whether to try again, whose fault it is, and whether something was bought.

``MEANINGS`` is the table by error. ``ACTIONS`` says what to do, by the safety of the call: a
purchase is never sent again once a byte may have been sent.
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
    """How an attempt failed, as far as it matters for trying again."""

    NOT_SENT = "no connection"
    LOST = "broken or silent after a byte may have been sent"
    SERVER_ERROR = "5xx"
    RATE_LIMITED = "429"
    UNREADABLE = "a reply that cannot be read"
    TOO_LARGE = "a reply over the limit"
    STATUS = "3xx or another 4xx"
    REFUSED = "a code that proves that nothing was done"
    UNCLEAR = "a code that does not prove it"


class Action(enum.Enum):
    """What to do after a failed attempt."""

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
_SENT_ONCE = {
    Failure.NOT_SENT: Action.RETRY,
    Failure.LOST: Action.UNKNOWN,
    Failure.SERVER_ERROR: Action.UNKNOWN,
    Failure.RATE_LIMITED: Action.RAISE,
    Failure.UNREADABLE: Action.UNKNOWN,
    Failure.TOO_LARGE: Action.UNKNOWN,
    # A gateway may answer with such a status after the call took effect.
    Failure.STATUS: Action.UNKNOWN,
    Failure.REFUSED: Action.RAISE,
    Failure.UNCLEAR: Action.UNKNOWN,
}
ACTIONS: Mapping[Safety, Mapping[Failure, Action]] = {
    Safety.READ: _READ,
    Safety.AUTH: _READ,
    Safety.WRITE: _SENT_ONCE,
    Safety.MONEY: _SENT_ONCE,
}


class Fault(enum.Enum):
    """What is at fault, which tells whether other calls may succeed."""

    HOST = "the host: the same call may succeed later"
    CALL = "this call, or the thing it asks for: other calls may succeed"
    REQUEST = "the way the call was made: this says nothing about the thing it asks for"
    ACCOUNT = "the account or a setting: no other call can succeed"


class Bought(enum.Enum):
    """Whether a purchase that ended with an error took effect."""

    NO = "no, even if it was sent"
    NOT_IF_UNSENT = "no if it was never sent, else not known"
    AS_IT_SAYS = "as the error's own ``was_placed`` says"


@frozen
class Meaning:
    """What an error means.

    Attributes:
        failure: How the attempt failed. ``classify`` refines it: a lost attempt that was not
            sent is ``NOT_SENT``, and a code that proves nothing about a purchase is ``UNCLEAR``.
        fault: What is at fault.
        exit_status: Exit status of the command: 1 failed, 2 wrong usage, 3 the login was refused,
            4 something may have been bought, 5 the host was not reached.
        bought: Whether a purchase took effect; see ``was_placed``.
    """

    failure: Failure
    fault: Fault
    exit_status: int = 1
    bought: Bought = Bought.NOT_IF_UNSENT


AT_LOGIN = "at login"
SERVER = "5xx"

_UNREADABLE = Meaning(Failure.UNREADABLE, Fault.HOST, 5)
_LOST = Meaning(Failure.LOST, Fault.HOST, 5)
_CALL = Meaning(Failure.REFUSED, Fault.CALL)
_ACCOUNT = Meaning(Failure.REFUSED, Fault.ACCOUNT)
_REFUSED = evolve(_CALL, bought=Bought.NO)
_REQUEST_REFUSED = evolve(_REFUSED, fault=Fault.REQUEST)
_LOGIN_REFUSED = evolve(_REFUSED, fault=Fault.ACCOUNT, exit_status=3)
_UNCLEAR = evolve(_CALL, exit_status=4, bought=Bought.AS_IT_SAYS)

MEANINGS: Mapping[tuple[type[errors.MioEsimError], str], Meaning] = {
    (errors.MioEsimError, ""): _CALL,
    (errors.ConfigurationError, ""): evolve(_ACCOUNT, exit_status=2),
    (errors.InvalidRequest, ""): Meaning(Failure.REFUSED, Fault.REQUEST, 2),
    (errors.ClientClosed, ""): _ACCOUNT,
    (errors.WrongLoop, ""): _ACCOUNT,
    # In a sweep the deadline starts when the call has its slot, so the host was too slow.
    (errors.DeadlineExceeded, ""): Meaning(Failure.REFUSED, Fault.HOST, 5),
    (errors.RateLimited, ""): Meaning(Failure.RATE_LIMITED, Fault.HOST, 5, Bought.NO),
    (errors.ProtocolError, ""): Meaning(Failure.UNREADABLE, Fault.CALL),
    (errors.ProtocolError, "html"): _UNREADABLE,
    (errors.ProtocolError, "empty"): _UNREADABLE,
    (errors.ProtocolError, "truncated"): _UNREADABLE,
    (errors.ProtocolError, "malformed"): _UNREADABLE,
    (errors.ProtocolError, "too_large"): Meaning(Failure.TOO_LARGE, Fault.CALL),
    (errors.OutcomeUnknown, ""): _UNCLEAR,
    (errors.JournalUnavailable, ""): evolve(_ACCOUNT, bought=Bought.AS_IT_SAYS),
    (errors.OrderIncomplete, ""): _UNCLEAR,
    (errors.DuplicateOrder, ""): evolve(_CALL, bought=Bought.AS_IT_SAYS),
    (errors.SpendLimitReached, ""): _CALL,
    (errors.TransportError, ""): _LOST,
    (errors.ConnectError, ""): Meaning(Failure.NOT_SENT, Fault.HOST, 5),
    (errors.ConnectionLost, ""): _LOST,
    (errors.AttemptTimeout, ""): _LOST,
    # A status such as 404 or 414 is about its batch, so trying again would not help.
    (errors.HttpStatusError, ""): Meaning(Failure.STATUS, Fault.CALL),
    (errors.HttpStatusError, SERVER): Meaning(Failure.SERVER_ERROR, Fault.HOST, 5),
    (errors.ApiError, ""): _REFUSED,
    (errors.AuthenticationError, ""): _LOGIN_REFUSED,
    # If the login succeeded, only this endpoint is closed, or one value is signed differently.
    (errors.PermissionDenied, ""): _REQUEST_REFUSED,
    (errors.PermissionDenied, AT_LOGIN): _LOGIN_REFUSED,
    (errors.SignatureError, ""): _REQUEST_REFUSED,
    (errors.SignatureError, AT_LOGIN): _LOGIN_REFUSED,
    (errors.TokenExpired, ""): _REFUSED,
    (errors.TokenContention, ""): evolve(_LOGIN_REFUSED, exit_status=5),
    (errors.MissingParameter, ""): _REQUEST_REFUSED,
    (errors.NotFound, ""): _REFUSED,
    (errors.QueryFailed, ""): _REQUEST_REFUSED,
    (errors.OrderStateError, ""): _REFUSED,
    (errors.NotYourOrder, ""): _REFUSED,
    (errors.PdfFailed, ""): _REFUSED,
}
"""By class and distinction (see ``_distinctions``); an empty text stands for all others."""


def meaning_of(error: errors.MioEsimError) -> Meaning:
    """Look up an error by its class, or else by the nearest base class in the table."""
    for cls in type(error).__mro__:
        for distinction in (*_distinctions(error), ""):
            if (meaning := MEANINGS.get((cls, distinction))) is not None:
                return meaning
    raise AssertionError("the table has MioEsimError")


def _distinctions(error: errors.MioEsimError) -> Iterator[str]:
    if error.endpoint == LOGIN.path:
        yield AT_LOGIN
    if isinstance(error, errors.HttpStatusError) and error.status >= 500:
        yield SERVER
    if isinstance(error, errors.ProtocolError):
        yield error.reason


def classify(error: errors.MioEsimError, safety: Safety, *, sent: bool) -> Failure:
    """Return how an attempt failed, as far as it matters for trying again."""
    failure = meaning_of(error).failure
    if failure is Failure.LOST and not sent:
        return Failure.NOT_SENT
    if isinstance(error, errors.ApiError) and safety is Safety.MONEY:
        return failure if error.code in REFUSED_FOR_MONEY else Failure.UNCLEAR
    return failure


def was_placed(error: errors.MioEsimError, *, sent: bool) -> bool | None:
    """Tell whether a purchase that ended with an error took effect; None if not known.

    Args:
        error: The error.
        sent: Whether a byte of the purchase may have been sent.
    """
    bought = meaning_of(error).bought
    if bought is Bought.AS_IT_SAYS:
        return error.was_placed
    return None if sent and bought is Bought.NOT_IF_UNSENT else False


def is_fatal(error: errors.MioEsimError) -> bool:
    """Tell whether all other calls would fail too, such as after a refused login."""
    return meaning_of(error).fault is Fault.ACCOUNT


def is_outage(error: errors.MioEsimError) -> bool:
    """Tell whether the host is at fault, and not the request.

    Every error at login that is not fatal counts, since no batch can be sent without a login.
    """
    if error.endpoint == LOGIN.path:
        return not is_fatal(error)
    if isinstance(error, errors.DeadlineExceeded) and error.last_error is not None:
        return is_outage(error.last_error)
    return meaning_of(error).fault is Fault.HOST
