"""Looking up what became of the journal's open entries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import date, timedelta

from attrs import define, evolve, field

from mioesim_async import errors
from mioesim_async.api.purchase import Purchaser, claim
from mioesim_async.api.recorded import recorded
from mioesim_async.fanout.outage import is_fatal
from mioesim_async.journal.entry import EntryState, Journal, JournalEntry
from mioesim_async.models.order_replies import OrderPage, references_of
from mioesim_async.models.orders import Order
from mioesim_async.models.scalars import GMT8
from mioesim_async.wire.endpoints import RENEW_CARD, RENEW_CARD_BY_API_CODE

__all__ = ["Candidate", "ReconcileReport", "reconcile"]

logger = logging.getLogger("mioesim_async")

CONCURRENCY = 4
NO_SUCH_DATA = 3
"""Code of a search that finds nothing (vendor-documented for other endpoints)."""
PAGE = 1000
NEAR = timedelta(hours=1)
"""How far an order's time may be from the entry's to be worth a person's look."""
SKEW = timedelta(days=2)
"""How far the vendor's clock may be from ours."""

RENEWALS = frozenset({RENEW_CARD.path, RENEW_CARD_BY_API_CODE.path})

Search = Callable[..., Awaitable[OrderPage]]
Get = Callable[..., Awaitable[Order]]


@define
class Candidate:
    """Orders that may be what an open entry became; a person must tell.

    Attributes:
        entry: The journal's entry.
        orders: Orders that match it by time and amount, or that share its reference.
    """

    entry: JournalEntry
    orders: list[Order]


@define
class ReconcileReport:
    """What became of the journal's open entries.

    Attributes:
        adopted: Orders that carry exactly our reference; their entries are finished.
        candidates: Entries with orders that may be theirs; these entries stay open.
        still_open: Every entry that stays open, each with its ``reason``.
        absent: Entries that were concluded never to have been placed, because the caller
            said so; they may be sent again.
    """

    adopted: list[Order] = field(factory=list)
    candidates: list[Candidate] = field(factory=list)
    still_open: list[JournalEntry] = field(factory=list)
    absent: list[JournalEntry] = field(factory=list)


async def reconcile(
    purchaser: Purchaser,
    search: Search,
    get: Get,
    *,
    assume_absent_after: timedelta | None,
    deadline: float | None,
) -> ReconcileReport:
    """Look up every open entry of the account; see ``Orders.reconcile``."""
    journal = purchaser.journal
    if journal is None:
        raise errors.ConfigurationError(
            "reconcile needs an order journal: MioEsimClient(..., order_journal=OrderJournal(path))"
        )
    if assume_absent_after is not None and assume_absent_after < timedelta(0):
        raise errors.InvalidRequest("assume_absent_after can't be negative")
    lookup = _Lookup(purchaser, journal, search, get, assume_absent_after, deadline)
    entries = await journal.open_entries(purchaser.caller.account)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(entry: JournalEntry) -> None:
        async with slots:
            await lookup.resolve(entry)

    try:
        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(one(entry))
    except* errors.MioEsimError as failed:
        fatal = failed.exceptions[0]
        while isinstance(fatal, BaseExceptionGroup):
            fatal = fatal.exceptions[0]
    else:
        return lookup.report
    fatal.report = lookup.report
    raise fatal


@define
class _Found:
    """Orders with our reference, orders that may be ours, and what speaks against "absent"."""

    exact: list[Order]
    near: list[Order] = field(factory=list)
    doubt: str = ""


@define
class _Lookup:
    purchaser: Purchaser
    journal: Journal
    search: Search
    get: Get
    absent_after: timedelta | None
    deadline: float | None
    report: ReconcileReport = field(factory=ReconcileReport)

    async def resolve(self, entry: JournalEntry) -> None:
        """Find out what became of one entry."""
        if entry.attempt in self.purchaser.under_way:
            self._leave(entry, "it is under way in this process")
            return
        try:
            found = await self._look(entry)
        except errors.MioEsimError as error:
            if is_fatal(error):
                raise
            self._leave(entry, f"the lookup failed: {error}")
            return
        if len(found.exact) == 1:
            await self._adopt(entry, found.exact[0])
        elif found.exact:
            numbers = ", ".join(order.order_num for order in found.exact)
            self._leave(entry, f"several orders carry its reference: {numbers}", found.exact)
        elif found.near:
            reason = "no order carries its reference; some match by time and amount"
            self._leave(entry, reason, found.near)
        elif found.doubt:
            self._leave(entry, found.doubt)
        elif self.absent_after is None or self._age(entry) < self.absent_after:
            self._leave(
                entry,
                "no order carries its reference, but the search may not heed references; pass "
                "assume_absent_after= if you are sure that it was not placed",
            )
        else:
            await self._drop(entry)

    async def _look(self, entry: JournalEntry) -> _Found:
        first, last = _days(entry)
        asked = await self._search_reference(entry.other_order_id, first, last)
        listed = await self._search(None, first, last)
        rows = {order.order_num: order for order in listed.rows + asked.rows if order.order_num}
        unclaimed = [order for order in rows.values() if not await self._is_another(order, entry)]
        return _Found(
            [order for order in unclaimed if _is_ours(order, entry)],
            [order for order in unclaimed if _is_near(order, entry)],
            _doubt(entry, asked, listed),
        )

    async def _search_reference(self, reference: str, first: date, last: date) -> OrderPage:
        # Without days, since clocks may differ and the form of the days is assumed.
        try:
            return await self._search(reference, None, None)
        except (errors.MissingParameter, errors.QueryFailed):
            return await self._search(reference, first, last)

    async def _search(
        self, reference: str | None, first: date | None, last: date | None
    ) -> OrderPage:
        try:
            return await self.search(reference, first, last, PAGE, self.deadline)
        except errors.NotFound as error:
            if error.code != NO_SUCH_DATA:
                raise
        return OrderPage([], 0)

    async def _is_another(self, order: Order, entry: JournalEntry) -> bool:
        """Tell whether an order is known to be another entry's."""
        known = await self.journal.find_order(entry.account, order.order_num)
        if known is None and order.other_order_id is not None:
            known = await self.journal.find(entry.account, order.other_order_id)
        return known is not None and known.other_order_id != entry.other_order_id

    async def _adopt(self, entry: JournalEntry, order: Order) -> None:
        try:
            order = await self.get(order.order_num, deadline=self.deadline)
        except errors.MioEsimError as error:
            # Found is found; who asks for the order again reads it whole.
            logger.warning("order %s was found, but not read: %s", order.order_num, error)
            kept = None
        else:
            kept = order
        claim(order, entry.other_order_id)
        if await self._settle(entry, EntryState.PLACED, order.order_num, kept):
            self.report.adopted.append(order)

    async def _drop(self, entry: JournalEntry) -> None:
        if await self._settle(entry, EntryState.ABSENT, None, None):
            self.report.absent.append(entry)

    async def _settle(
        self,
        entry: JournalEntry,
        state: EntryState,
        number: str | None,
        order: Order | None,
    ) -> bool:
        return await self.journal.settle(
            entry.account,
            entry.other_order_id,
            entry.attempt,
            state,
            at=self.purchaser.now(),
            reason="found by reconcile" if number else "assumed absent by reconcile",
            order_num=number,
            order=recorded(order) if order is not None and order.cards else None,
        )

    def _leave(self, entry: JournalEntry, reason: str, orders: list[Order] | None = None) -> None:
        entry = evolve(entry, reason=reason)
        self.report.still_open.append(entry)
        if orders:
            self.report.candidates.append(Candidate(entry, orders))

    def _age(self, entry: JournalEntry) -> timedelta:
        return self.purchaser.now() - entry.updated_at


def _doubt(entry: JournalEntry, *pages: OrderPage) -> str:
    """Say why an order that was not found may be there all the same; empty if it may not."""
    for page in pages:
        if page.mentions(entry.other_order_id):
            return "the search names its reference, in a way that can't be read"
        if page.has_bad_rows:
            return "the search has rows that can't be read"
        if page.total > len(page.rows) or page.total >= PAGE:
            return "the search has more orders than it shows"
        if page.rows and not any(map(references_of, page.rows)):
            return "the search shows orders without references"
    return ""


def _days(entry: JournalEntry) -> tuple[date, date]:
    """Return the days in GMT+8 on which the order can have been placed."""
    first = (entry.created_at - SKEW).astimezone(GMT8).date()
    last = (entry.updated_at + SKEW).astimezone(GMT8).date()
    return first, last


def _is_ours(row: Order, entry: JournalEntry) -> bool:
    """Tell whether an order carries exactly our reference, and nothing contradicts it."""
    if row.other_order_id != entry.other_order_id or not _fits(row, entry):
        return False
    moment = row.purchased_at
    return moment is None or entry.created_at - SKEW <= moment <= entry.updated_at + SKEW


def _is_near(row: Order, entry: JournalEntry) -> bool:
    """Tell whether a person should look at an order that does not carry our reference."""
    if not row.order_num:
        return False
    if entry.other_order_id in references_of(row):
        return True
    moment, price = row.purchased_at, entry.expected_price
    is_then = moment is not None and (entry.created_at - NEAR <= moment <= entry.updated_at + NEAR)
    # Whether an order's price is of one card or of all is not documented.
    count = int(entry.params.get("count", 1))
    is_amount = price is None or row.price is None or row.price in (price, price / count)
    return is_then and is_amount and _fits(row, entry)


def _fits(row: Order, entry: JournalEntry) -> bool:
    """Tell whether nothing that a row says of the purchase contradicts the entry.

    Where the vendor puts a number of its own in the place of our reference (observed), a row
    may carry "1017" without being ours.
    """
    pairs = (
        (entry.params.get("skuId"), row.sku_id),
        (entry.params.get("priceId"), row.price_id),
        (entry.params.get("count"), row.count),
    )
    if any(ours and theirs is not None and ours != str(theirs) for ours, theirs in pairs):
        return False
    return not row.is_renewal or entry.endpoint in RENEWALS
