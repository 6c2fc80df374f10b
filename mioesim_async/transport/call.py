"""What one call has been through, and the errors that tell of it."""

from __future__ import annotations

import re

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
    "cut_short",
    "order_asked_about",
    "too_late",
    "unknown",
    "wrongly_signed",
]

DISPUTED = re.compile("[^A-Za-z0-9._,-]")
"""Characters that not all encoders write alike, such as blanks and slashes (observed)."""


@define(eq=False, repr=False)
class Call(TimeLimit):
    """One call, and the block in which its caller waits for it.

    Attributes:
        endpoint: Its row.
        texts: Its parameters, as text.
        policy: How often to try.
        pace: Of the sweep that it belongs to, or None.
        items: How many things it asks for, such as ICCIDs or cards to buy.
        reserved: It belongs to a purchase: its slot and its connection are not those of reads.
        attempt: Number of the attempt under way.
        progress: Of the attempt under way; None before the first.
        replays: How often it was sent again with another token.
        rejected: The token that it was refused with last.
        trial: Finds out the method of reads; None where that is known, or it is none.
        last_error: What the last attempt ended with.
        order_num: The number of the order that it placed, once that is known.
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

    @property
    def was_sent(self) -> bool:
        """Whether a byte may have left, and was not proven to have done nothing."""
        return self.progress is not None and self.progress.sent


def too_late(call: Call) -> errors.DeadlineExceeded:
    """Make the error for a deadline that passed before the outcome could matter."""
    path, last = call.endpoint.path, call.last_error
    if last is None and call.was_sent:
        last = errors.AttemptTimeout("the host was silent").at(path)
    message = f"{path}: the deadline passed before there was an answer"
    return errors.DeadlineExceeded(
        f"{message}; the last attempt: {last}" if last else message, last
    ).at(path)


def order_asked_about(call: Call) -> str | None:
    """Return the order that a call names and is about; None where it may make another of it."""
    if call.endpoint.safety is Safety.MONEY and call.endpoint.path != REFUND_ORDER.path:
        return None
    return call.texts.get("orderNum")


def unknown(call: Call, failed: errors.MioEsimError) -> errors.OutcomeUnknown:
    """Make the error for what may or may not have been executed."""
    path = call.endpoint.path
    reference, data = call.texts.get("otherOrderId"), getattr(failed, "data", None)
    order_num = order_asked_about(call)
    if order_num is None:
        renewed = call.texts.get("orderNum")
        order_num = new_order_num(
            data,
            renewed=renewed,
            renews=renewed is not None or "iccid" in call.texts,
            is_text=isinstance(failed, errors.ProtocolError),
        )
    if reference is None and call.endpoint.safety is Safety.WRITE:
        advice = "it may have reached somebody, so think before you repeat it"
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
    ).at(path)


def wrongly_signed(
    call: Call, refused: errors.SignatureError, *, logged_in: bool
) -> errors.SignatureError:
    """Say what is most likely wrong with the signature of a call that is no login.

    How a value is encoded before it is signed differs by the language of the vendor's samples
    (observed), so a value that all of them write alike is not to blame.

    Args:
        call: The call.
        refused: What the vendor answered.
        logged_in: This client has logged in with its secret key.
    """
    disputed = [name for name, text in call.texts.items() if DISPUTED.search(text)]
    hint = (
        "the login succeeded with this secret key, so the key is right"
        if logged_in
        else "the token came from the token store, so first check this client's secret key"
    )
    if disputed:
        names = " and ".join(disputed)
        hint += (
            f"; most likely the vendor encodes the value of {names} otherwise before it signs: "
            "leave it out, or write it with ASCII letters and digits alone"
        )
    elif call.endpoint.method == "GET":
        hint += "; try to send reads as forms: " + setting("read_method", "'POST'")
    else:
        hint += "; ask the vendor how this call is signed"
    return errors.SignatureError(
        refused.endpoint, refused.code, refused.message, refused.data, hint
    )


def cut_short(call: Call) -> errors.MioEsimError:
    """Make the error for a purchase that was sent, and whose caller's deadline passed."""
    late = too_late(call)
    if call.order_num is None:
        return unknown(call, late)
    return errors.OrderIncomplete(
        f"order {call.order_num} was placed, but the deadline passed before it was read whole; "
        f"{worded('read it with orders.get()')}",
        order_num=call.order_num,
        other_order_id=call.texts.get("otherOrderId"),
    ).at(call.endpoint.path)
