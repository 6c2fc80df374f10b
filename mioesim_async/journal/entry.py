"""Journal entries, the rules for changing them, and the protocol of journals."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from attrs import define, evolve

from mioesim_async.clock import TellsTime
from mioesim_async.errors import SpendLimitReached

__all__ = [
    "REPEATABLE",
    "SETTLED",
    "SPENT",
    "UNSETTLED",
    "EntryState",
    "Journal",
    "JournalEntry",
    "aware",
    "check_outcome",
    "fingerprint",
    "may_begin",
    "recordable",
    "settled",
    "spend_limit_error",
    "time_before",
]


class EntryState(enum.StrEnum):
    """What is known about an order."""

    OPEN = "open"
    """The intent is recorded. The order may be under way, or its process was killed."""
    UNKNOWN = "unknown"
    """The order was sent, and it is not known whether it was placed."""
    PLACED = "placed"
    """The order was placed."""
    REFUSED = "refused"
    """The vendor certainly refused the order."""
    NOT_SENT = "not sent"
    """The order was never sent."""
    ABSENT = "absent"
    """The operator said that the order was never placed."""


UNSETTLED = frozenset({EntryState.OPEN, EntryState.UNKNOWN})
"""States in which the order may have been placed."""
SETTLED = frozenset(EntryState) - UNSETTLED
"""States in which the outcome is known."""
SPENT = UNSETTLED | {EntryState.PLACED}
"""States whose price counts as spent: what may have been bought, too; refunds don't lower it."""
REPEATABLE = frozenset({EntryState.REFUSED, EntryState.NOT_SENT, EntryState.ABSENT})
"""States in which nothing was placed, so that the same order may be sent again."""


@define
class JournalEntry:
    """One order or renewal in the journal; it contains no activation code.

    Attributes:
        account: The key of the account.
        other_order_id: The reference of the order; unique for the account.
        endpoint: Path of the endpoint.
        params: The parameters that identify the order, as they were sent, such as ``skuId``,
            ``priceId`` and ``count``; not the e-mail address and the remark.
        fingerprint: A hash of all parameters; see ``fingerprint``.
        expected_price: What the order should cost, or None.
        attempt: A unique id of this attempt to buy.
        created_at: When the intent was recorded, in UTC.
        updated_at: When the entry was last changed, in UTC.
        state: What is known about the order.
        reason: Why the state is unknown or refused; empty otherwise.
        order_num: The vendor's order number, or None.
        order: The recorded order, JSON-ready, or None.
    """

    account: str
    other_order_id: str
    endpoint: str
    params: dict[str, str]
    fingerprint: str
    expected_price: Decimal | None
    attempt: str
    created_at: datetime
    updated_at: datetime
    state: EntryState = EntryState.OPEN
    reason: str = ""
    order_num: str | None = None
    order: dict[str, Any] | None = None


@runtime_checkable
class Journal(Protocol):
    """Records what became of each order, for all processes that share the journal.

    ``OrderJournal`` uses a file, and ``PostgresOrderJournal`` a database. For another place,
    implement these methods; in a database, make each method one transaction. Test it with
    ``mioesim_async.testing.journal_contract``. If a method raises before the order was sent, the
    order is not sent, and the caller gets a ``JournalUnavailable`` (or the error itself, if it is
    a ``MioEsimError``). ``settle`` is tried again until it succeeds.

    Four more methods are optional. ``accounts()`` returns the keys of all accounts that have an
    entry in a state other than ``NOT_SENT``: with it, the client refuses to buy if it may know
    the account by another label. ``find_orders(account, *, order_nums, references)`` returns the
    entries that were placed as one of these order numbers, or have one of these references:
    it makes ``reconcile`` faster. ``begin_within(entry, *, limit, since)`` is ``begin`` under a
    limit of spending, for ``max_spend_per_day``: under a lock for the account, shared by all hosts,
    it adds up ``expected_price`` of the account's entries that were created at ``since`` or later
    and are in a state of ``SPENT``, and records the intent only if its own price still fits; if
    not, it raises ``spend_limit_error(entry, limit, spent)``. An existing entry is returned as by
    ``begin``, whatever was spent. ``close_idle()`` is called when a client closes: it closes what
    the running event loop keeps open and doesn't use; other clients may go on to use the journal.
    """

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record the intent to buy, unless its reference is used. It is durable on return.

        A reference is free if it has no entry, or one that ``may_begin`` allows to replace. If
        several callers begin the same reference at once, in any process, only one gets None.

        Returns:
            None if the intent was recorded, else the existing entry, unchanged.

        Raises:
            asyncio.CancelledError: If the caller was cancelled. By then the intent is recorded,
                or never will be. In both cases the attempt may be settled as ``NOT_SENT``.
        """
        ...

    async def settle(
        self,
        account: str,
        other_order_id: str,
        attempt: str,
        state: EntryState,
        *,
        at: datetime,
        reason: str = "",
        order_num: str | None = None,
        order: dict[str, Any] | None = None,
    ) -> bool:
        """Record the outcome of an attempt, by the rules of ``settled``.

        If the caller is cancelled, the outcome may be recorded or not; it may be given again.

        Args:
            account: As in the entry.
            other_order_id: As in the entry.
            attempt: As in the entry; an entry of another attempt is not changed.
            state: The new state.
            at: The time of the change; with a time zone.
            reason: Why the state is unknown or refused.
            order_num: The vendor's order number.
            order: The order, JSON-ready and without an activation code.

        Returns:
            Whether the entry was changed.
        """
        ...

    async def find(self, account: str, other_order_id: str) -> JournalEntry | None:
        """Return the entry of a reference, or None."""
        ...

    async def find_order(self, account: str, order_num: str) -> JournalEntry | None:
        """Return the entry that was placed as this order number, or None."""
        ...

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account.
        """
        ...

    async def prune(self, *, older_than: timedelta) -> int:
        """Delete settled entries that have not changed for a time; open ones are kept.

        A reference whose entry was deleted may be bought again, so choose months, not hours.

        Args:
            older_than: Minimum time since the last change.

        Returns:
            How many entries were deleted.
        """
        ...


MAX_REASON = 2000
UNRECORDABLE = re.compile("[\x00\ud800-\udfff]")


def recordable(text: str) -> str:
    """Return text that any database accepts: at most 2,000 characters of the vendor's text.

    NUL and lone surrogates are replaced.
    """
    return UNRECORDABLE.sub("\ufffd", text[:MAX_REASON])


def may_begin(existing: JournalEntry | None, entry: JournalEntry) -> bool:
    """Tell whether an intent may replace the existing entry.

    It may if nothing was placed and the parameters are the same.
    """
    return existing is None or (
        existing.state in REPEATABLE and existing.fingerprint == entry.fingerprint
    )


def settled(
    entry: JournalEntry,
    state: EntryState,
    *,
    at: datetime,
    reason: str = "",
    order_num: str | None = None,
    order: dict[str, Any] | None = None,
) -> JournalEntry | None:
    """Return an entry in its new state, or None if it must not be changed.

    An open or unknown entry may get any state. Any entry may become placed, and then stays so:
    only the order itself may be added later. A known order number or order is never removed.
    Texts are made ``recordable``.
    """
    order_num = None if order_num is None else recordable(order_num)
    if entry.state is EntryState.PLACED:
        same = entry.order_num is None or order_num in {None, entry.order_num}
        if state is not EntryState.PLACED or order is None or not same:
            return None
    elif entry.state not in UNSETTLED and state is not EntryState.PLACED:
        return None
    return evolve(
        entry,
        state=state,
        updated_at=at,
        reason=recordable(reason),
        order_num=order_num if order_num is not None else entry.order_num,
        order=order if order is not None else entry.order,
    )


def aware(at: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ValueError: If it has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a time in the journal needs a time zone")
    return at.astimezone(UTC)


def check_outcome(at: datetime, order: dict[str, Any] | None) -> None:
    """Check an outcome before anything is read or written.

    Raises:
        ValueError: If the time has no time zone.
        TypeError: If the order is not JSON-ready.
    """
    aware(at)
    json.dumps(order)


def time_before(clock: TellsTime, age: timedelta) -> datetime:
    """Return the time that was so long ago, in UTC.

    Raises:
        ValueError: If the age is negative.
    """
    if age < timedelta(0):
        raise ValueError("older_than can't be negative")
    return datetime.fromtimestamp(clock.time(), UTC) - age


def spend_limit_error(entry: JournalEntry, limit: Decimal, spent: Decimal) -> SpendLimitReached:
    """Make the error for an intent that doesn't fit the day's limit of spending."""
    error = SpendLimitReached(
        f"reference {entry.other_order_id} costs {entry.expected_price}, which would bring what "
        f"the account spends today (GMT+8) from {spent} over the limit of {limit}; nothing was "
        "sent: raise max_spend_per_day, or buy it tomorrow",
        max_spend=limit,
        spent=spent,
        line=None,
    )
    error.other_order_id = entry.other_order_id
    return error


NOT_HASHED = frozenset({"otherOrderId", "backInfo"})
"""Parameters that don't change what is ordered."""


def fingerprint(endpoint: str, texts: Mapping[str, str]) -> str:
    """Return a hash that is equal for two purchases of the same thing.

    Args:
        endpoint: Path of the endpoint.
        texts: The parameters as they are sent. The reference is ignored, and so is
            ``backInfo``, the form of the reply.
    """
    asked = sorted((name, text) for name, text in texts.items() if name not in NOT_HASHED)
    return hashlib.sha256(json.dumps([endpoint, asked]).encode()).hexdigest()
