"""The state of one call, and the errors that describe how it ended."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from itertools import count

from attrs import define, field

from mioesim_async import errors
from mioesim_async.clock import TimeLimit
from mioesim_async.config import RetryPolicy
from mioesim_async.rows.orders import new_order_num
from mioesim_async.tokens.store import StoredToken
from mioesim_async.transport.attempt_timer import Progress
from mioesim_async.transport.pace import Pace
from mioesim_async.transport.read_method import MethodTrial
from mioesim_async.wire.dialect import setting
from mioesim_async.wire.endpoints import REFUND_ORDER, Endpoint, Safety
from mioesim_async.wording import worded

__all__ = [
    "Call",
    "abandoned_error",
    "deadline_exceeded",
    "order_num_of",
    "outcome_unknown",
    "signature_error",
    "unfinished_error",
]

ENCODED_DIFFERENTLY = re.compile("[^A-Za-z0-9._,-]")
"""Characters that the vendor's code samples encode differently, such as blanks (observed)."""

_process = secrets.token_hex(4)


def _renew_process() -> None:
    global _process  # noqa: PLW0603 - a forked process must not use its parent's
    _process = secrets.token_hex(4)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process)


@define(eq=False, repr=False)
class Call(TimeLimit):
    """The state of one call, and the time limit of its caller.

    Attributes:
        endpoint: The endpoint.
        texts: The parameters, as text.
        policy: How often to try.
        pace: The pace of the sweep that makes the call, or None.
        items: How many things it asks for, such as ICCIDs or cards to buy.
        reserved: Whether it belongs to a purchase, and so uses the slots and connections that
            are reserved for purchases.
        attempt: Number of the current attempt, from 1.
        progress: Progress of the current attempt; None before the first.
        replays: How often it was sent again with a new token.
        rejected: The token that the vendor refused last.
        trial: Finds out the method of reads; None if it is known, or this is no read by GET.
        last_error: The error of the last attempt.
        order_num: The number of the order that it placed; None until it is known.
        number: Its number within this process.
        began: When it was made, on the monotonic clock.
        is_late: Whether the deadlines of all its callers have passed.
        is_recorded: Whether the record of an attempt says how the call was cut off.
    """

    endpoint: Endpoint = field(kw_only=True)
    texts: dict[str, str] = field(kw_only=True)
    policy: RetryPolicy = field(kw_only=True)
    pace: Pace | None = field(default=None, kw_only=True)
    items: int = field(default=1, kw_only=True)
    reserved: bool = field(default=False, kw_only=True)
    attempt: int = field(default=0, init=False)
    progress: Progress | None = field(default=None, init=False)
    replays: int = field(default=0, init=False)
    rejected: StoredToken | None = field(default=None, init=False)
    trial: MethodTrial | None = field(default=None, init=False)
    last_error: errors.MioEsimError | None = field(default=None, init=False)
    order_num: str | None = field(default=None, init=False)
    number: int = field(factory=count(1).__next__, init=False)
    began: float = field(default=0.0, kw_only=True)
    is_late: bool = field(default=False, init=False)
    is_recorded: bool = field(default=False, init=False)

    @property
    def id(self) -> str:
        """Its id, which its records, log lines and error have; unique among all processes."""
        return f"{_process}-{self.number}"

    @property
    def cut_off_by(self) -> str:
        """What cut it off: the name of the error that its caller gets."""
        if self.stopped:
            return errors.ClientClosed.__name__
        if self.has_expired or self.is_late:
            return errors.DeadlineExceeded.__name__
        return asyncio.CancelledError.__name__

    @property
    def was_sent(self) -> bool:
        """Whether the request may have reached the host, and may have had an effect."""
        return self.progress is not None and self.progress.sent


def deadline_exceeded(call: Call) -> errors.DeadlineExceeded:
    """Make the error for a deadline that passed; for calls whose outcome is not in doubt."""
    path, last = call.endpoint.path, call.last_error
    if last is None and call.was_sent:
        last = errors.AttemptTimeout("the host was silent").at(path, call.id)
    message = f"{path}: the deadline passed before there was an answer"
    return errors.DeadlineExceeded(
        f"{message}; the last attempt: {last}" if last else message, last
    ).at(path, call.id)


def order_num_of(call: Call) -> str | None:
    """Return the number of the order that a call is about; None if the call makes a new order."""
    if call.endpoint.safety is Safety.MONEY and call.endpoint.path != REFUND_ORDER.path:
        return None
    return call.texts.get("orderNum")


def outcome_unknown(call: Call, failed: errors.MioEsimError) -> errors.OutcomeUnknown:
    """Make the error for a call that may or may not have taken effect."""
    path = call.endpoint.path
    reference, data = call.texts.get("otherOrderId"), getattr(failed, "data", None)
    order_num = order_num_of(call)
    if order_num is None:
        renewed = call.texts.get("orderNum")
        order_num = new_order_num(
            data,
            renewed=renewed,
            renews=renewed is not None or "iccid" in call.texts,
            is_text=isinstance(failed, errors.ProtocolError),
        )
    if reference is None and call.endpoint.safety is Safety.WRITE:
        advice = "repeat it only if it does no harm when it takes effect twice"
    else:
        where = f"reference {reference}" if reference else "the account's last orders"
        advice = f"before you repeat it, look for {where}"
    return errors.OutcomeUnknown(
        f"{path} may or may not have been executed, and was not sent again; "
        f"{advice}. The cause: {failed}",
        other_order_id=reference,
        order_num=order_num,
        data=data,
        last_error=failed,
    ).at(path, call.id)


def signature_error(
    call: Call, refused: errors.SignatureError, *, logged_in: bool
) -> errors.SignatureError:
    """Add a hint about the likely cause to the signature error of a call other than login.

    The vendor's code samples encode some values differently before they sign them (observed).
    So values with such characters are the most likely cause.

    Args:
        call: The call.
        refused: The vendor's error.
        logged_in: Whether this client has logged in with its secret key.
    """
    disputed = [name for name, text in call.texts.items() if ENCODED_DIFFERENTLY.search(text)]
    hint = (
        "the login succeeded with this secret key, so the key is right"
        if logged_in
        else "the token came from the token store, so first check this client's secret key"
    )
    if disputed:
        names = " and ".join(disputed)
        hint += (
            f"; most likely the vendor encodes the value of {names} differently before it signs: "
            "leave it out, or use ASCII letters and digits only"
        )
    elif call.endpoint.method == "GET":
        hint += "; try to send reads by POST: " + setting("read_method", "'POST'")
    else:
        hint += "; ask the vendor how to sign this call"
    return errors.SignatureError(
        refused.endpoint, refused.code, refused.message, refused.data, hint
    )


def abandoned_error(call: Call) -> errors.MioEsimError:
    """Make the error for a call that the client left when it was closed."""
    if call.order_num is not None:
        return _unread_error(call, "the client was closed")
    closed = errors.ClientClosed("the client was closed before there was an answer")
    closed.at(call.endpoint.path, call.id)
    return outcome_unknown(call, closed) if call.was_sent else closed


def unfinished_error(call: Call) -> errors.MioEsimError:
    """Make the error for a purchase that goes on after its caller's deadline."""
    late = deadline_exceeded(call)
    if call.order_num is None:
        unknown = outcome_unknown(call, late)
        unknown.is_under_way = True
        return unknown
    return _unread_error(call, "the deadline passed")


def _unread_error(call: Call, why: str) -> errors.OrderIncomplete:
    return errors.OrderIncomplete(
        f"order {call.order_num} was placed, but {why} before it was read; "
        f"{worded('read it with orders.get()')}",
        order_num=call.order_num or "",
        other_order_id=call.texts.get("otherOrderId"),
    ).at(call.endpoint.path, call.id)
