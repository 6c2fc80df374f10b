"""All exceptions of the SDK.

::

    MioEsimError
    ├── ConfigurationError        a setting cannot work (also a ValueError)
    ├── InvalidRequest            bad input, found before a byte was sent (also a ValueError)
    ├── ClientClosed              used after ``aclose()``
    ├── WrongLoop                 used from a second event loop, or from trio
    ├── DeadlineExceeded          the call's ``deadline=`` ran out (also a TimeoutError)
    ├── RateLimited               HTTP 429, and the call was not tried again
    ├── ProtocolError             a reply that cannot be read
    ├── OutcomeUnknown            a purchase or an e-mail may or may not have taken effect
    ├── JournalUnavailable        the order journal can't be used now; nothing was sent
    ├── OrderIncomplete           placed, but reading the order failed
    ├── DuplicateOrder            a reference used again with other parameters
    ├── SpendLimitReached         it would exceed max_spend or max_spend_per_day
    ├── TransportError            the network or an HTTP status
    │   ├── ConnectError          nothing was sent
    │   ├── ConnectionLost        broken after a byte may have been sent
    │   ├── AttemptTimeout        one attempt took too long (also a TimeoutError)
    │   └── HttpStatusError       a status other than 2xx and 429
    └── ApiError                  the vendor answered with a code other than success
        ├── AuthenticationError   login refused
        ├── PermissionDenied      the account may not do this
        ├── SignatureError        the vendor computes another signature
        ├── TokenExpired          a token was refused (handled inside; rarely seen)
        ├── TokenContention       somebody else keeps logging in on this account
        ├── MissingParameter      the vendor says that a parameter is missing
        ├── NotFound              not known to the vendor, or the operation failed
        ├── QueryFailed           the query's filters were refused
        ├── OrderStateError       the order's status does not allow it
        ├── NotYourOrder          the order belongs to another account
        └── PdfFailed             the PDF could not be made or sent

No message, ``repr``, ``args`` or cause holds a password, secret key, token, signature or
activation code. Errors survive ``pickle`` and ``copy``.

Task queues keep an exception's class and ``args``, often as JSON. So ``args`` are the text and a
dictionary of the error's fields, all plain values, and ``type(e)(*e.args)`` makes the error again:
the same class, text and fields, but ``data``, ``last_error``, ``tally``, ``report`` and ``line``.
``to_dict`` and ``from_dict`` do the same for JSON of your own.

Every error of a purchase, a renewal, a cancellation or a line of ``place_many`` has
``was_placed``: False (it was refused, or never sent), True (it was placed, but reading the order
failed) or None (not known).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

__all__ = [
    "ApiError",
    "AttemptTimeout",
    "AuthenticationError",
    "ClientClosed",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "DuplicateOrder",
    "HttpStatusError",
    "InvalidRequest",
    "JournalUnavailable",
    "MioEsimError",
    "MissingParameter",
    "NotFound",
    "NotYourOrder",
    "OrderIncomplete",
    "OrderStateError",
    "OutcomeUnknown",
    "PdfFailed",
    "PermissionDenied",
    "ProtocolError",
    "QueryFailed",
    "RateLimited",
    "SignatureError",
    "SpendLimitReached",
    "TokenContention",
    "TokenExpired",
    "TransportError",
    "WrongLoop",
]


E = TypeVar("E", bound="MioEsimError")

SHOWN_FAULTS = 20
MOST_FAULTS = 1000
"""How many faults of bad input ``args`` keep, since a queue has to hold them."""


NONE = type(None)

PLAIN_FIELDS: Mapping[str, frozenset[type]] = {
    "call_id": frozenset({str}),
    "code": frozenset({int, str}),
    "endpoint": frozenset({str}),
    "faults": frozenset({tuple}),
    "hint": frozenset({str}),
    "is_under_way": frozenset({bool}),
    "max_spend": frozenset({Decimal}),
    "message": frozenset({str}),
    "order_num": frozenset({str, NONE}),
    "other_order_id": frozenset({str, NONE}),
    "reason": frozenset({str}),
    "retry_after": frozenset({int, float, NONE}),
    "spent": frozenset({Decimal}),
    "status": frozenset({int}),
    "was_placed": frozenset({bool, NONE}),
}
"""The fields that ``args`` and ``to_dict`` keep, and the types of their values."""


class _Revivable(type):
    """Lets each class be called with the ``args`` of its errors, beside its own arguments.

    A class of errors may have any constructor, so this can't be one.
    """

    if not TYPE_CHECKING:

        def __call__(cls, *args, **options):
            if len(args) == 2 and type(args[0]) is str and type(args[1]) is dict and not options:
                return _revived(cls, *args)
            return super().__call__(*args, **options)


def _revived(cls: type[E], text: str, fields: Mapping[str, object]) -> E:
    """Make an error from its text and plain fields; leave out fields that can't be right."""
    error = cls.__new__(cls, text)
    BaseException.__init__(error, text)
    for name, kinds in PLAIN_FIELDS.items():
        if name in fields and hasattr(cls, name):
            value = _from_plain(fields[name], kinds)
            if type(value) in kinds:
                setattr(error, name, value)
    return error


def _from_plain(value: object, kinds: frozenset[type]) -> object:
    """Return the value that was made plain; None or another type if there was no such value."""
    if Decimal in kinds and type(value) is str:
        try:
            number = Decimal(value)
        except ArithmeticError:
            return None
        return number if number.is_finite() else None
    if tuple in kinds and type(value) is list:
        texts = cast("list[object]", value)
        return tuple(texts) if all(type(text) is str for text in texts) else None
    return None if type(value) is float and not math.isfinite(value) else value


def _to_plain(value: object) -> object:
    if type(value) is Decimal:
        return str(value)
    if type(value) is tuple:
        return [*cast("tuple[str, ...]", value)[:MOST_FAULTS]]
    # JSON has no infinities.
    return None if type(value) is float and not math.isfinite(value) else value


def _get_args(error: MioEsimError) -> tuple[Any, ...]:
    return str(error), {
        name: _to_plain(error.__dict__[name])
        for name, kinds in PLAIN_FIELDS.items()
        if type(error.__dict__.get(name, ...)) in kinds
    }


def _set_args(error: MioEsimError, args: tuple[Any, ...]) -> None:
    BaseException.__init__(error, *args[:1])


class MioEsimError(Exception, metaclass=_Revivable):
    """Base of every error of this SDK.

    Attributes:
        args: The text, and a dictionary of the fields that are set, as plain values.
        endpoint: Path of the endpoint that was called; empty if none was called.
        call_id: The id of the call that failed, as in its ``AttemptRecord``s and log lines; empty
            if there was no call. If a call fails because the login did, it is the login's.
        tally: The counts (``SweepStats``) of a sweep that ended early; else None.
        report: What was read before the error: the ``CardReport`` of ``query_all``, the
            ``ReconcileReport`` of ``reconcile``, or the list of orders of a search. Else None.
        other_order_id: The reference of the order or renewal, or None.
        was_placed: Whether this call bought, renewed or cancelled something. False: it was
            refused, or never sent. True: it was placed, but reading the order failed. None: not
            known, or the order journal has an open or placed entry of this reference. Also None
            for all other calls.
    """

    endpoint: str = ""
    call_id: str = ""
    other_order_id: str | None = None
    was_placed: bool | None = None
    tally: Any = None
    report: Any = None
    # The attributes change after an error is made, so args are made when they are asked for.
    args: tuple[Any, ...] = cast("tuple[Any, ...]", property(_get_args, _set_args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all attributes, which are more than ``args`` have."""
        return _rebuild, (type(self), super().args, self.__dict__.copy())

    def at(self, endpoint: str, call_id: str = "") -> Self:
        """Set ``endpoint`` and ``call_id``, drop the traceback, and return this error.

        The traceback is dropped because its frames hold activation codes, which tools that
        record local variables would show.
        """
        self.endpoint = endpoint
        if call_id:
            self.call_id = call_id
        return self.with_traceback(None)


def _rebuild(cls: type[MioEsimError], args: tuple[Any, ...], state: dict[str, Any]) -> MioEsimError:
    error = cls.__new__(cls, *args)
    BaseException.__init__(error, *args)
    vars(error).update(state)
    return error


class ConfigurationError(MioEsimError, ValueError):
    """A setting cannot work; the message says which one, and what to set instead."""


class InvalidRequest(MioEsimError, ValueError):
    """Bad input, found before a byte was sent.

    Attributes:
        faults: All faults, one sentence each. The message contains the first 20.
    """

    faults: tuple[str, ...] = ()

    def __init__(self, *faults: str) -> None:
        """Collect the faults into one message."""
        shown = list(faults[:SHOWN_FAULTS])
        if len(faults) > len(shown):
            shown.append(f"and {len(faults) - len(shown)} more")
        super().__init__("; ".join(shown))
        self.faults = faults


class ClientClosed(MioEsimError):
    """The client or its session manager was closed; make a new one."""


class WrongLoop(MioEsimError):
    """The client was used from a second event loop, or from trio; make one per asyncio loop."""


class DeadlineExceeded(MioEsimError, TimeoutError):
    """The ``deadline=`` of a call ran out before there was an answer.

    Attributes:
        last_error: What the last attempt ended with, or None.
    """

    last_error: MioEsimError | None = None

    def __init__(self, message: str, last_error: MioEsimError | None = None) -> None:
        """Keep the error of the last attempt."""
        super().__init__(message)
        self.last_error = last_error


class RateLimited(MioEsimError):
    """The host limits the rate (HTTP 429 or the like), and the call was not tried again.

    Attributes:
        retry_after: Seconds that the host asked to wait, or None if it did not say.
    """

    retry_after: float | None = None

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Keep the wait that the host asked for, in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(MioEsimError):
    """A reply that cannot be read.

    Attributes:
        reason: ``html``, ``empty``, ``truncated``, ``malformed``, ``too_large``,
            ``incomplete`` (a search shows fewer orders than there are) or ``shape`` (JSON, but
            not what was expected).
        data: Text of the reply to a purchase; else None. Left out of ``str`` and ``repr``.
    """

    reason: str = "shape"
    data: str | None = None

    def __init__(self, message: str, reason: str = "shape") -> None:
        """Keep the kind of fault."""
        super().__init__(message)
        self.reason = reason


class OutcomeUnknown(MioEsimError):
    """A purchase, renewal, refund or e-mail may or may not have taken effect.

    Don't send it again before you know. Search for the order by its reference.

    Attributes:
        other_order_id: The caller's reference of the order, or None.
        order_num: The vendor's order number, or None.
        data: What the vendor answered, or None. Left out of the message.
        last_error: The error that made the outcome unknown, or None.
        is_under_way: Whether it is still under way: in this client, or, as a guess, elsewhere,
            because the order journal has its intent since a short time and no outcome.
    """

    order_num: str | None = None
    data: Any = None
    last_error: MioEsimError | None = None
    is_under_way: bool = False

    def __init__(
        self,
        message: str,
        *,
        other_order_id: str | None = None,
        order_num: str | None = None,
        data: Any = None,
        last_error: MioEsimError | None = None,
        is_under_way: bool = False,
    ) -> None:
        """Keep what helps to find out the outcome."""
        super().__init__(message)
        self.other_order_id = other_order_id
        self.order_num = order_num
        self.data = data
        self.last_error = last_error
        self.is_under_way = is_under_way


class JournalUnavailable(MioEsimError):
    """The order journal can't be used now, so nothing was sent; try again later.

    ``was_placed`` is None, since the journal may have an earlier order of this reference.
    """


class OrderIncomplete(MioEsimError):
    """The order was placed, but reading it failed; read it later by its number.

    Attributes:
        order_num: The vendor's order number.
        other_order_id: The caller's reference, or None.
        data: What the vendor answered to the order, or None. Left out of the message, since
            it may hold activation codes.
        last_error: Why the order could not be read, or None.
    """

    order_num: str = ""
    data: Any = None
    last_error: MioEsimError | None = None

    def __init__(
        self,
        message: str,
        *,
        order_num: str,
        other_order_id: str | None = None,
        data: Any = None,
        last_error: MioEsimError | None = None,
    ) -> None:
        """Keep the order's number and reference, and the reply."""
        super().__init__(message)
        self.was_placed = True
        self.order_num = order_num
        self.other_order_id = other_order_id
        self.data = data
        self.last_error = last_error


class DuplicateOrder(MioEsimError):
    """The reference was used before with other parameters; make a new one.

    Attributes:
        other_order_id: The reference.
        order_num: The number of the order that was placed with it, or None.
    """

    order_num: str | None = None

    def __init__(self, message: str, *, other_order_id: str, order_num: str | None = None) -> None:
        """Keep the reference and the order."""
        super().__init__(message)
        self.other_order_id = other_order_id
        self.order_num = order_num


class SpendLimitReached(MioEsimError):
    """An order would have exceeded ``max_spend`` or ``max_spend_per_day``, and was not sent.

    Attributes:
        max_spend: The limit.
        spent: The total of the lines before; lines of unknown outcome count.
        line: The line that was not sent; None if the error was made again from ``args``.
    """

    max_spend: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)
    line: Any = None

    def __init__(self, message: str, *, max_spend: Decimal, spent: Decimal, line: Any) -> None:
        """Keep the sums and the line."""
        super().__init__(message)
        self.max_spend = max_spend
        self.spent = spent
        self.line = line


class TransportError(MioEsimError):
    """The request failed in the network, or with an HTTP status."""


class ConnectError(TransportError):
    """No connection: refused, DNS, TLS or a connect time-out. Nothing was sent."""


class ConnectionLost(TransportError):
    """The connection broke after a byte may have been sent."""


class AttemptTimeout(TransportError, TimeoutError):
    """One attempt took longer than its ``Timeouts`` allow."""


class HttpStatusError(TransportError):
    """An HTTP status other than 2xx and 429.

    Attributes:
        status: The HTTP status.
        retry_after: Seconds that the host asked to wait, or None.
    """

    status: int = 0
    retry_after: float | None = None

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ApiError(MioEsimError):
    """The vendor answered with a code that is not success.

    Attributes:
        endpoint: Path of the endpoint.
        code: The vendor's code; text if it was not a number.
        message: The vendor's own message, with secrets masked.
        data: The reply's ``data``; left out of ``str`` and ``repr``.
        hint: What to do next.
    """

    code: int | str = 0
    message: str = ""
    data: Any = None
    hint: str = ""

    def __init__(
        self, endpoint: str, code: int | str, message: str = "", data: Any = None, hint: str = ""
    ) -> None:
        """Keep all parts of the reply."""
        text = f"{endpoint} answered code {code}"
        if message:
            text += f" ({message})"
        super().__init__(f"{text}: {hint}" if hint else text)
        self.endpoint = endpoint
        self.code = code
        self.message = message
        self.data = data
        self.hint = hint


class AuthenticationError(ApiError):
    """Login was refused."""


class PermissionDenied(ApiError):
    """The account may not do this."""


class SignatureError(ApiError):
    """The vendor computed another signature: the secret key or the way to sign is wrong."""


class TokenExpired(ApiError):
    """The token was refused: it expired, or a later login invalidated it."""


class TokenContention(ApiError):
    """New tokens are refused at once: somebody else keeps logging in on the account."""


class MissingParameter(ApiError):
    """The vendor says that a required parameter is missing."""


class NotFound(ApiError):
    """The vendor doesn't know what was asked for, or the operation failed."""


class QueryFailed(ApiError):
    """The vendor refused the query's filters."""


class OrderStateError(ApiError):
    """The order's status does not allow the operation."""


class NotYourOrder(ApiError):
    """The order belongs to another account."""


class PdfFailed(ApiError):
    """The PDF could not be made or sent."""


_CLASSES = {name: cast("type[MioEsimError]", globals()[name]) for name in __all__}


def to_dict(error: MioEsimError) -> dict[str, Any]:
    """Return an error as a dictionary of plain values, which JSON can hold.

    Returns:
        ``type`` (the class's name; for a class of your own, that of its nearest base class here),
        ``text``, ``was_placed`` and the other fields that are set, without ``data``,
        ``last_error``, ``tally``, ``report`` and ``line``. No secret is among them.
    """
    kind = next(cls for cls in type(error).__mro__ if cls in _CLASSES.values())
    text, fields = error.args
    return {"type": kind.__name__, "text": text, "was_placed": error.was_placed, **fields}


def from_dict(plain: Mapping[str, Any]) -> MioEsimError:
    """Make an error again from what ``to_dict`` returned, also if that comes from a stranger.

    Nothing is imported, and the only classes are those of this module. An unknown class becomes
    ``MioEsimError``. A field that is missing or has a value of a wrong type has its default, such
    as None for ``was_placed``.

    Args:
        plain: The dictionary. Any other value gives a ``MioEsimError`` without a text.
    """
    known = plain if isinstance(plain, dict) else {}
    name, text = known.get("type"), known.get("text")
    cls = _CLASSES.get(name, MioEsimError) if isinstance(name, str) else MioEsimError
    return _revived(cls, text if isinstance(text, str) else "", known)
