"""Journal entries, the rules they follow, and the protocol of journals."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from attrs import define, evolve

__all__ = [
    "REPEATABLE",
    "SETTLED",
    "UNSETTLED",
    "EntryState",
    "Journal",
    "JournalEntry",
    "fingerprint",
    "may_begin",
    "recordable",
    "settled",
]


class EntryState(enum.StrEnum):
    """What is known of an order."""

    OPEN = "open"
    """The intent is recorded: it may be under way, or its process died."""
    UNKNOWN = "unknown"
    """It was sent, and there was no clear answer."""
    PLACED = "placed"
    """It was placed; its order number is known."""
    REFUSED = "refused"
    """The vendor definitely refused it."""
    NOT_SENT = "not sent"
    """It never left."""
    ABSENT = "absent"
    """The operator said that it was never placed."""


UNSETTLED = frozenset({EntryState.OPEN, EntryState.UNKNOWN})
"""An order may have been placed."""
SETTLED = frozenset(EntryState) - UNSETTLED
"""It is known what happened."""
REPEATABLE = frozenset({EntryState.REFUSED, EntryState.NOT_SENT, EntryState.ABSENT})
"""Nothing was placed, so the same order may be sent again."""


@define
class JournalEntry:
    """One order or renewal in the journal; it holds no activation code.

    Attributes:
        account: Whose order, as an opaque key.
        other_order_id: The reference of the order; one entry for each account and reference.
        endpoint: Path of the endpoint.
        params: What the order is recognised by, as it was sent: ``skuId``, ``priceId``,
            ``count`` and the like; no e-mail address and no remark.
        fingerprint: A hash of all parameters, see ``fingerprint``.
        expected_price: What it should cost, or None.
        attempt: Names this one sending; no other has the same.
        created_at: When the intent was recorded; with a time zone, UTC.
        updated_at: When the entry last changed; with a time zone, UTC.
        state: What is known of the order.
        reason: Why it is unknown or refused; empty otherwise.
        order_num: The vendor's order number, or None.
        order: The order as it was recorded, JSON-ready, or None.
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
    """Keeps what became of each order, for every process that shares it.

    ``OrderJournal`` does so in a file. To keep it elsewhere, write these methods; in a database,
    each is one transaction. What a method raises stops the order, if it was not sent yet: it
    becomes a ``JournalUnavailable`` if it is no ``MioEsimError``. Settling is tried again until
    it succeeds.

    Two more may be left out. ``accounts()`` returns the keys of all accounts that have an entry
    in another state than ``NOT_SENT``: with it, an account that is reached by another URL is
    told from a new one. ``find_orders(account, *, order_nums, references)`` returns the entries
    that were placed as one of these orders of the vendor's, or that have one of these references,
    in one look-up: ``reconcile`` is fast with it.
    """

    async def begin(self, entry: JournalEntry) -> JournalEntry | None:
        """Record an intent, durably and before this returns, unless its reference is taken.

        It is free where there is no entry, or one that ``may_begin`` allows to be replaced.
        Of those who ask at once, in any process, one gets None.

        Returns:
            None if the intent was recorded, else the entry that is there, unchanged.

        Raises:
            asyncio.CancelledError: If the caller was cancelled. The intent may be recorded by
                then, or not, and nothing happens any more. Settling the attempt as
                ``NOT_SENT`` is right in both cases.
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
        """Record what became of an attempt, by the rules of ``settled``.

        Args:
            account: As in the entry.
            other_order_id: As in the entry.
            attempt: As in the entry; an entry of another attempt is left alone.
            state: What is known now.
            at: When; with a time zone.
            reason: Why it is unknown or refused.
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
        """Return the entry that was placed as this order of the vendor's, or None."""
        ...

    async def open_entries(self, account: str | None = None) -> list[JournalEntry]:
        """Return the entries of orders that may have been placed, oldest first.

        Args:
            account: Only those of this account.
        """
        ...

    async def prune(self, *, older_than: timedelta) -> int:
        """Forget settled entries that have not changed for a time; open ones are kept.

        A forgotten reference may be sent again, so choose months and not hours.

        Args:
            older_than: How long ago they last changed, at least.

        Returns:
            How many were forgotten.
        """
        ...


MAX_REASON = 2000
UNRECORDABLE = re.compile("[\x00\ud800-\udfff]")


def recordable(text: str) -> str:
    """Return text of the vendor's as every database takes it, at most 2,000 characters of it.

    NUL and half characters, such as are left of an emoji that was cut off, are replaced.
    """
    return UNRECORDABLE.sub("\ufffd", text[:MAX_REASON])


def may_begin(existing: JournalEntry | None, entry: JournalEntry) -> bool:
    """Tell whether an intent may take the place of what is there.

    It may where nothing was placed, and where the parameters are the same.
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
    """Return an entry with what is known now, or None if it must stay as it is.

    An open or unknown entry may become anything. That an order was placed wins over whatever
    was thought before, and stays: only the order itself may be filled in later. An order
    number, or an order, that is known is never lost. Texts are made ``recordable``.
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


OWN_WORDS = frozenset({"otherOrderId", "backInfo"})
"""Parameters that make no other order of it."""


def fingerprint(endpoint: str, texts: Mapping[str, str]) -> str:
    """Hash what an order asks for, to tell whether another asks for the same.

    Args:
        endpoint: Path of the endpoint.
        texts: The parameters as they are sent. The reference and ``backInfo``, which says
            how to answer, are left out.
    """
    asked = sorted((name, text) for name, text in texts.items() if name not in OWN_WORDS)
    return hashlib.sha256(json.dumps([endpoint, asked]).encode()).hexdigest()
