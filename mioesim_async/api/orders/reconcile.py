"""Finds out what became of the journal's open entries."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from itertools import chain

from attrs import define, evolve, field

from mioesim_async import errors
from mioesim_async.api.orders.journalling import Journalling
from mioesim_async.api.orders.purchase import set_reference
from mioesim_async.api.orders.search import MAX_ROWS, OrderSearch, ask_for_orders, read_orders
from mioesim_async.clock import GMT8
from mioesim_async.journal.entry import EntryState, JournalEntry, recordable
from mioesim_async.journal.order_record import recorded
from mioesim_async.models.orders import Order
from mioesim_async.rows.orders import OrderPage, references_of, texts_of
from mioesim_async.transport.failures import is_fatal
from mioesim_async.wire.endpoints import RENEW_CARD, RENEW_CARD_BY_API_CODE
from mioesim_async.wording import worded

__all__ = ["Candidate", "Get", "ReconcileReport", "reconcile", "reconcile_one"]

logger = logging.getLogger("mioesim_async")

CONCURRENCY = 4
TEXTS_PER_SLICE = 2000
ORDERS_PER_SLICE = 200
"""How many are read before other tasks of the event loop may run."""
MAX_APART = timedelta(hours=1)
"""How far an order's time may be from the entry's, to report it as a candidate."""
MAX_DAYS = timedelta(days=2)
"""How many days before and after the entry an order is searched for, since clocks may differ."""
MAX_CLOCKS_APART = timedelta(minutes=5)
"""How far our clock may be from the vendor's, to settle an entry as absent."""

RENEWALS = frozenset({RENEW_CARD.path, RENEW_CARD_BY_API_CODE.path})

Get = Callable[..., Awaitable[Order]]


@define
class Candidate:
    """Orders that may belong to an open entry; a person must decide.

    Attributes:
        entry: The journal's entry.
        orders: Orders that have its reference, or have no reference and match its time and price.
    """

    entry: JournalEntry
    orders: list[Order]


@define
class ReconcileReport:
    """What became of the journal's open entries.

    Attributes:
        adopted: Orders that have exactly our reference; their entries are now placed.
        candidates: Entries with orders that may be theirs; these entries stay open.
        still_open: All entries that stay open, each with its ``reason``.
        absent: Entries that were settled as not placed, by ``assume_absent_after``; they may be
            sent again.
    """

    adopted: list[Order] = field(factory=list)
    candidates: list[Candidate] = field(factory=list)
    still_open: list[JournalEntry] = field(factory=list)
    absent: list[JournalEntry] = field(factory=list)


async def reconcile(
    journalling: Journalling | None,
    get: Get,
    *,
    assume_absent_after: timedelta | None,
    deadline: float | None,
) -> ReconcileReport:
    """Find out what became of each open entry; see ``Orders.reconcile``."""
    if journalling is None:
        raise errors.ConfigurationError(
            "reconcile needs an order journal: MioEsimClient(..., order_journal=OrderJournal(path))"
        )
    if assume_absent_after is not None and assume_absent_after < timedelta(0):
        raise errors.InvalidRequest("assume_absent_after can't be negative")
    lookup = _Lookup(journalling, get, assume_absent_after, deadline)
    # First write the outcomes that this client knows.
    await journalling.settlements.write_all()
    entries = await journalling.journal.open_entries(journalling.caller.account)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(entry: JournalEntry) -> None:
        async with slots:
            await lookup.resolve(entry)

    try:
        for entry in entries[:1]:
            # The first one alone, since its searches may be enough for the others.
            await lookup.resolve(entry)
        async with asyncio.TaskGroup() as group:
            for entry in entries[1:]:
                group.create_task(one(entry))
    except* errors.MioEsimError as failed:
        fatal = failed.exceptions[0]
        while isinstance(fatal, BaseExceptionGroup):
            fatal = fatal.exceptions[0]
    else:
        return lookup.report
    fatal.report = lookup.report
    raise fatal


async def reconcile_one(journalling: Journalling, get: Get, entry: JournalEntry) -> ReconcileReport:
    """Find out what became of one open entry."""
    lookup = _Lookup(journalling, get, None, None)
    await lookup.resolve(entry)
    return lookup.report


@define
class _Found:
    """The result of a search.

    Attributes:
        by_reference: Orders by each reference that they have. An order that the journal has is
            listed only under the reference of its entry.
        unreferenced: Orders that have no reference, and that the journal doesn't have.
        text: All texts in the replies.
        is_part: Whether there are more orders than were found.
        doubt: Why an order may exist though it was not found; empty if there is no reason.
    """

    by_reference: dict[str, list[Order]]
    unreferenced: list[Order]
    text: str = field(repr=False)
    is_part: bool
    doubt: str

    def is_unfiltered(self, reference: str) -> bool:
        """Tell whether the vendor ignored this reference, by which it was asked to search."""
        if self.by_reference.get(reference):
            return False
        # A search by reference may also find longer references that contain it.
        return len(self.unreferenced) > 1 or any(reference not in one for one in self.by_reference)


@define
class _Lookup:
    journalling: Journalling
    get: Get
    absent_after: timedelta | None
    deadline: float | None
    report: ReconcileReport = field(factory=ReconcileReport)
    owners: dict[str, str | None] = field(factory=dict)
    """By order number: the reference of the order's entry in the journal, or None."""
    known: set[str] = field(factory=set)
    """References that the journal has."""
    listed: dict[tuple[date, date], _Found] = field(factory=dict)
    """Results by first and last day."""
    locks: dict[tuple[date, date], asyncio.Lock] = field(factory=lambda: defaultdict(asyncio.Lock))
    unfiltered: _Found | None = None
    """The result of a search by reference, if the vendor ignores references; it fits all."""

    async def resolve(self, entry: JournalEntry) -> None:
        """Find out what became of one entry, and settle or report it."""
        if self._leave_if_client_knows(entry):
            return
        try:
            shown = await self._search(entry)
        except errors.MioEsimError as error:
            if is_fatal(error):
                raise
            self._leave(entry, f"the lookup failed: {error}")
            return
        exact, near = await _matching(entry, shown)
        doubt = next(filter(None, (_doubt_of_search(entry, one) for one in shown)), "")
        if len(exact) == 1:
            await self._adopt(entry, exact[0])
        elif exact:
            numbers = ", ".join(order.order_num for order in exact)
            self._leave(entry, f"several orders have its reference: {numbers}", exact)
        elif near:
            reason = "no order has its reference; some match by time and price"
            self._leave(entry, reason, near)
        elif doubt:
            self._leave(entry, doubt)
        elif self.absent_after is None or self._age(entry) < self.absent_after:
            self._leave(
                entry,
                "no order has its reference, but the vendor may not search by reference; "
                f"{worded('pass assume_absent_after=')} if you are sure that it was not placed",
            )
        elif doubt := _doubt_of_clocks(self.journalling.caller.clock_ahead):
            self._leave(entry, f"no order has its reference, but {doubt}")
        else:
            await self._settle_as_absent(entry)

    def _leave_if_client_knows(self, entry: JournalEntry) -> bool:
        """Leave an entry open and return True if this client knows, or will know, its outcome."""
        late = self.journalling.settlements.unwritten_of(entry.attempt)
        if late is not None:
            reason = f"the outcome is known, but could not be written to the journal so far: {late}"
            self._leave(self.journalling.settlements.complete(entry), reason)
        elif entry.attempt in self.journalling.under_way:
            self._leave(entry, "it is under way in this process")
        else:
            return False
        return True

    async def _search(self, entry: JournalEntry) -> list[_Found]:
        """Search by the days of an entry, and by its reference, unless the result is known."""
        days = _days(entry)
        async with self.locks[days]:
            if days not in self.listed:
                self.listed[days] = await self._list(*days)
        listed = self.listed[days]
        if self.unfiltered is not None:
            return [listed, self.unfiltered]
        reference = entry.other_order_id
        asked = await self._search_reference(reference, *days)
        if asked.is_unfiltered(reference):
            # Keep it, since every other reference would give the same result.
            self.unfiltered = asked
        return [listed, asked]

    async def _list(self, first: date, last: date) -> _Found:
        replies: list[OrderPage] = []
        search = OrderSearch(
            self.journalling.caller, None, first, last,
            page_size=MAX_ROWS, deadline=self.deadline, replies=replies,
        )  # fmt: skip
        is_part = False
        try:
            orders = await search
        except errors.ProtocolError as error:
            if error.reason != "incomplete":
                raise
            orders, is_part = error.report, True
        return await self._sort(orders, replies, is_part, bool(search.bad_rows))

    async def _search_reference(self, reference: str, first: date, last: date) -> _Found:
        # Without days, since clocks may differ and the format of the days is assumed.
        try:
            page = await self._ask(reference, None, None)
        except (errors.MissingParameter, errors.QueryFailed):
            page = await self._ask(reference, first, last)
        orders, bad = await read_orders(page.rows)
        shown = len(page.rows)
        is_part = shown >= MAX_ROWS if page.total is None else shown < page.total
        return await self._sort(orders, [page], is_part, bool(bad))

    async def _ask(self, reference: str, first: date | None, last: date | None) -> OrderPage:
        return await ask_for_orders(
            self.journalling.caller, reference, first, last, size=MAX_ROWS, deadline=self.deadline
        )

    async def _sort(
        self, orders: list[Order], replies: list[OrderPage], is_part: bool, has_bad_rows: bool
    ) -> _Found:
        """Sort the orders that were found by reference."""
        text, is_whole = await _text_of(replies)
        await self._find_owners(orders)
        shown, shows_references = _Found(defaultdict(list), [], text, is_part, ""), not orders
        for place, order in enumerate(orders, 1):
            if place % ORDERS_PER_SLICE == 0:
                await asyncio.sleep(0)
            owner, references = self.owners.get(order.order_num), references_of(order)
            # A number as reference is the vendor's own number, unless the journal has it.
            named = {one for one in references if not one.isdecimal() or one in self.known}
            shows_references |= owner in references or not all(map(str.isdecimal, references))
            if not order.order_num:
                has_bad_rows = True
            elif owner is not None:
                shown.by_reference[owner].append(order)
            else:
                for reference in references:
                    shown.by_reference[reference].append(order)
                if not named:
                    shown.unreferenced.append(order)
        if has_bad_rows or not is_whole:
            shown.doubt = "the search has rows that can't be read"
        elif not shows_references:
            shown.doubt = "the search shows orders without references"
        return shown

    async def _find_owners(self, orders: list[Order]) -> None:
        """Look up orders in the journal, all at once, to find the references of their entries."""
        account = self.journalling.caller.account
        new = [order for order in orders if order.order_num and order.order_num not in self.owners]
        if not new:
            return
        # Made recordable, as the journal has them.
        numbers = {recordable(order.order_num) for order in new}
        references = {recordable(order.other_order_id) for order in new if order.other_order_id}
        references -= self.known
        find_orders = getattr(self.journalling.journal, "find_orders", None)
        if find_orders is not None:
            entries = await find_orders(account, order_nums=numbers, references=references)
        else:
            # The method find_orders is optional.
            found = [
                await self.journalling.journal.find_order(account, number) for number in numbers
            ]
            found += [
                await self.journalling.journal.find(account, reference) for reference in references
            ]
            entries = [entry for entry in found if entry is not None]
        placed = {
            entry.order_num: entry.other_order_id
            for entry in entries
            if entry.state is EntryState.PLACED
        }
        self.owners |= {order.order_num: placed.get(recordable(order.order_num)) for order in new}
        self.known |= {entry.other_order_id for entry in entries}

    async def _adopt(self, entry: JournalEntry, order: Order) -> None:
        try:
            order = await self.get(order.order_num, deadline=self.deadline)
        except errors.MioEsimError as error:
            # Settle it with its number alone; the order is read when it is asked for again.
            number = recordable(order.order_num)
            logger.warning("order %s was found, but could not be read: %s", number, error)
            kept = None
        else:
            kept = order
        set_reference(order, entry.other_order_id)
        if await self._settle(entry, EntryState.PLACED, order.order_num, kept):
            self.report.adopted.append(order)

    async def _settle_as_absent(self, entry: JournalEntry) -> None:
        if self._leave_if_client_knows(entry):
            return
        if await self._settle(entry, EntryState.ABSENT, None, None):
            self.report.absent.append(entry)

    async def _settle(
        self,
        entry: JournalEntry,
        state: EntryState,
        number: str | None,
        order: Order | None,
    ) -> bool:
        return await self.journalling.journal.settle(
            entry.account,
            entry.other_order_id,
            entry.attempt,
            state,
            at=self.journalling.now(),
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
        return self.journalling.now() - entry.updated_at


async def _text_of(replies: list[OrderPage]) -> tuple[str, bool]:
    """Return all texts in replies, and whether all could be read; lets other tasks run."""
    pieces: list[str] = []
    texts = chain.from_iterable(texts_of(reply.data) for reply in replies)
    try:
        for place, text in enumerate(texts, 1):
            pieces.append(text)
            if place % TEXTS_PER_SLICE == 0:
                await asyncio.sleep(0)
    except errors.ProtocolError:
        return "", False
    return "\n".join(pieces), True


async def _matching(entry: JournalEntry, shown: list[_Found]) -> tuple[list[Order], list[Order]]:
    """Return the orders that belong to an entry, and the candidates."""
    carrying = [order for one in shown for order in one.by_reference.get(entry.other_order_id, ())]
    exact = [order for order in carrying if _belongs_to(order, entry)]
    near = [*carrying]
    for place, order in enumerate(chain.from_iterable(one.unreferenced for one in shown), 1):
        if _is_candidate(order, entry):
            near.append(order)
        if place % ORDERS_PER_SLICE == 0:
            await asyncio.sleep(0)
    return _each_once(exact), _each_once(near)


def _each_once(orders: list[Order]) -> list[Order]:
    return [*{order.order_num: order for order in orders}.values()]


def _doubt_of_search(entry: JournalEntry, shown: _Found) -> str:
    """Return why an order may exist though it was not found; empty if there is no reason."""
    if entry.other_order_id in shown.text:
        return "the vendor's reply has its reference, but not in a readable order"
    if shown.is_part:
        return "the vendor has more orders than its search shows"
    return shown.doubt


def _doubt_of_clocks(ahead: float | None) -> str:
    """Return why times can't be compared with the vendor's; empty if they can.

    Args:
        ahead: By how many seconds this machine's clock is ahead of the vendor's; None if not
            known.
    """
    if ahead is None:
        return (
            "the vendor's replies have no Date header, so this machine's clock can't be compared "
            "with the vendor's; find out what became of the order, and settle the entry by hand "
            "with journal.settle()"
        )
    if abs(ahead) <= MAX_CLOCKS_APART.total_seconds():
        return ""
    apart, where = timedelta(seconds=round(abs(ahead))), "ahead of" if ahead > 0 else "behind"
    return (
        f"this machine's clock is {apart} {where} the vendor's, so the entry's age and day are "
        "not known; set the clock right, and reconcile again"
    )


def _days(entry: JournalEntry) -> tuple[date, date]:
    """Return the days in GMT+8 on which the order can have been placed."""
    first = (entry.created_at - MAX_DAYS).astimezone(GMT8).date()
    last = (entry.updated_at + MAX_DAYS).astimezone(GMT8).date()
    return first, last


def _belongs_to(order: Order, entry: JournalEntry) -> bool:
    """Tell whether an order has exactly the entry's reference, and nothing contradicts that."""
    if order.other_order_id != entry.other_order_id or not _fits(order, entry):
        return False
    moment = order.purchased_at
    return moment is None or entry.created_at - MAX_DAYS <= moment <= entry.updated_at + MAX_DAYS


def _is_candidate(order: Order, entry: JournalEntry) -> bool:
    """Tell whether an order without a reference is a candidate for the entry."""
    moment, price = order.purchased_at, entry.expected_price
    is_then = moment is not None and (
        entry.created_at - MAX_APART <= moment <= entry.updated_at + MAX_APART
    )
    # It is not documented whether an order's price is that of one card or of all.
    count = int(entry.params.get("count", 1))
    is_amount = price is None or order.price is None or order.price in (price, price / count)
    return is_then and is_amount and _fits(order, entry)


def _fits(order: Order, entry: JournalEntry) -> bool:
    """Tell whether SKU, plan, count and kind of an order agree with the entry.

    The reference alone is no proof: the vendor may write its own number there (observed), and
    that may be equal to a reference of ours.
    """
    pairs = (
        (entry.params.get("skuId"), order.sku_id),
        (entry.params.get("priceId"), order.price_id),
        (entry.params.get("count"), order.count),
    )
    if any(ours and theirs is not None and ours != str(theirs) for ours, theirs in pairs):
        return False
    return not order.is_renewal or entry.endpoint in RENEWALS
