"""Looking up what became of the journal's open entries."""

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
from mioesim_async.api.orders.purchase import claim
from mioesim_async.api.orders.search import MOST_ROWS, OrderSearch, ask_for_orders, read_orders
from mioesim_async.clock import GMT8
from mioesim_async.journal.entry import EntryState, JournalEntry, recordable
from mioesim_async.journal.order_record import recorded
from mioesim_async.models.orders import Order
from mioesim_async.rows.orders import OrderPage, references_of, texts_of
from mioesim_async.transport.failures import is_fatal
from mioesim_async.wire.endpoints import RENEW_CARD, RENEW_CARD_BY_API_CODE
from mioesim_async.wording import worded

__all__ = ["Candidate", "ReconcileReport", "reconcile"]

logger = logging.getLogger("mioesim_async")

CONCURRENCY = 4
TEXTS_AT_ONCE = 2000
ORDERS_AT_ONCE = 200
"""So many are gone through in one stretch of the loop."""
NEAR = timedelta(hours=1)
"""How far an order's time may be from the entry's to be worth a person's look."""
SKEW = timedelta(days=2)
"""How far an order's day may be from the entry's."""
CLOCKS_APART = timedelta(minutes=5)
"""How far the vendor's clock may be from ours where an entry is concluded to be absent."""

RENEWALS = frozenset({RENEW_CARD.path, RENEW_CARD_BY_API_CODE.path})

Get = Callable[..., Awaitable[Order]]


@define
class Candidate:
    """Orders that may be what an open entry became; a person must tell.

    Attributes:
        entry: The journal's entry.
        orders: Orders that match it by time and amount and carry nobody's reference, or that share
            its reference.
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
    journalling: Journalling | None,
    get: Get,
    *,
    assume_absent_after: timedelta | None,
    deadline: float | None,
) -> ReconcileReport:
    """Look up every open entry of the account; see ``Orders.reconcile``."""
    if journalling is None:
        raise errors.ConfigurationError(
            "reconcile needs an order journal: MioEsimClient(..., order_journal=OrderJournal(path))"
        )
    if assume_absent_after is not None and assume_absent_after < timedelta(0):
        raise errors.InvalidRequest("assume_absent_after can't be negative")
    lookup = _Lookup(journalling, get, assume_absent_after, deadline)
    # What this client knows needs no looking up.
    await journalling.settlements.write_all()
    entries = await journalling.journal.open_entries(journalling.caller.account)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one(entry: JournalEntry) -> None:
        async with slots:
            await lookup.resolve(entry)

    try:
        for entry in entries[:1]:
            # Alone, since its searches may serve the others as well.
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


@define
class _Shown:
    """What a search showed.

    Attributes:
        by_reference: Orders by each reference that they carry. One that the journal has as an
            entry's is under that entry's reference alone.
        nameless: Orders that carry nobody's reference, and that the journal doesn't have.
        text: All that is in the replies.
        is_part: It says that there are more orders than it shows.
        doubt: Why an order that is not among them may be there all the same; empty if it may not.
    """

    by_reference: dict[str, list[Order]]
    nameless: list[Order]
    text: str = field(repr=False)
    is_part: bool
    doubt: str

    def ignores(self, reference: str) -> bool:
        """Tell whether the search that showed this, by a reference, did not heed it."""
        if self.by_reference.get(reference):
            return False
        # One that heeds it may look for it within longer ones.
        return len(self.nameless) > 1 or any(reference not in one for one in self.by_reference)


@define
class _Lookup:
    journalling: Journalling
    get: Get
    absent_after: timedelta | None
    deadline: float | None
    report: ReconcileReport = field(factory=ReconcileReport)
    owners: dict[str, str | None] = field(factory=dict)
    """Whose an order is, by its number: the reference of its entry in the journal, or None."""
    known: set[str] = field(factory=set)
    """References that are in the journal."""
    listed: dict[tuple[date, date], _Shown] = field(factory=dict)
    """What was listed of some days."""
    locks: dict[tuple[date, date], asyncio.Lock] = field(factory=lambda: defaultdict(asyncio.Lock))
    unheeded: _Shown | None = None
    """What the vendor shows whatever reference it is asked for, if it heeds none."""

    async def resolve(self, entry: JournalEntry) -> None:
        """Find out what became of one entry."""
        if self._is_ours_to_settle(entry):
            return
        try:
            shown = await self._look(entry)
        except errors.MioEsimError as error:
            if is_fatal(error):
                raise
            self._leave(entry, f"the lookup failed: {error}")
            return
        exact, near = await _matching(entry, shown)
        doubt = next(filter(None, (_doubt(entry, one) for one in shown)), "")
        if len(exact) == 1:
            await self._adopt(entry, exact[0])
        elif exact:
            numbers = ", ".join(order.order_num for order in exact)
            self._leave(entry, f"several orders carry its reference: {numbers}", exact)
        elif near:
            reason = "no order carries its reference; some match by time and amount"
            self._leave(entry, reason, near)
        elif doubt:
            self._leave(entry, doubt)
        elif self.absent_after is None or self._age(entry) < self.absent_after:
            self._leave(
                entry,
                "no order carries its reference, but the search may not heed references; "
                f"{worded('pass assume_absent_after=')} if you are sure that it was not placed",
            )
        elif doubt := _doubt_of_clocks(self.journalling.caller.clock_ahead):
            self._leave(entry, f"no order carries its reference, but {doubt}")
        else:
            await self._drop(entry)

    def _is_ours_to_settle(self, entry: JournalEntry) -> bool:
        """Leave an entry of which this client knows, or will know, better than any search."""
        late = self.journalling.settlements.lacking(entry.attempt)
        if late is not None:
            reason = f"the answer is known, but the journal could not be told so far: {late}"
            self._leave(self.journalling.settlements.known(entry), reason)
        elif entry.attempt in self.journalling.under_way:
            self._leave(entry, "it is under way in this process")
        else:
            return False
        return True

    async def _look(self, entry: JournalEntry) -> list[_Shown]:
        """Search by the days of an entry, and by its reference."""
        days = _days(entry)
        async with self.locks[days]:
            if days not in self.listed:
                self.listed[days] = await self._list(*days)
        listed = self.listed[days]
        if self.unheeded is not None:
            return [listed, self.unheeded]
        reference = entry.other_order_id
        asked = await self._search_reference(reference, *days)
        if asked.ignores(reference):
            # It would show the same for every other reference.
            self.unheeded = asked
        return [listed, asked]

    async def _list(self, first: date, last: date) -> _Shown:
        """List all orders of some days."""
        replies: list[OrderPage] = []
        search = OrderSearch(
            self.journalling.caller, None, first, last,
            page_size=MOST_ROWS, deadline=self.deadline, replies=replies,
        )  # fmt: skip
        is_part = False
        try:
            orders = await search
        except errors.ProtocolError as error:
            if error.reason != "incomplete":
                raise
            orders, is_part = error.report, True
        return await self._sort(orders, replies, is_part, bool(search.bad_rows))

    async def _search_reference(self, reference: str, first: date, last: date) -> _Shown:
        # Without days, since clocks may differ and the form of the days is assumed.
        try:
            page = await self._ask(reference, None, None)
        except (errors.MissingParameter, errors.QueryFailed):
            page = await self._ask(reference, first, last)
        orders, bad = await read_orders(page.rows)
        shown = len(page.rows)
        is_part = shown >= MOST_ROWS if page.total is None else shown < page.total
        return await self._sort(orders, [page], is_part, bool(bad))

    async def _ask(self, reference: str, first: date | None, last: date | None) -> OrderPage:
        return await ask_for_orders(
            self.journalling.caller, reference, first, last, size=MOST_ROWS, deadline=self.deadline
        )

    async def _sort(
        self, orders: list[Order], replies: list[OrderPage], is_part: bool, has_bad_rows: bool
    ) -> _Shown:
        """Sort what a search showed by whose it is."""
        text, is_whole = await _text_of(replies)
        await self._look_up(orders)
        shown, shows_references = _Shown(defaultdict(list), [], text, is_part, ""), not orders
        for place, order in enumerate(orders, 1):
            if place % ORDERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            owner, references = self.owners.get(order.order_num), references_of(order)
            # A number in place of the reference is the vendor's own, unless it is one of ours.
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
                    shown.nameless.append(order)
        if has_bad_rows or not is_whole:
            shown.doubt = "the search has rows that can't be read"
        elif not shows_references:
            shown.doubt = "the search shows orders without references"
        return shown

    async def _look_up(self, orders: list[Order]) -> None:
        """Look up in the journal, all at once, whose orders these are."""
        account = self.journalling.caller.account
        new = [order for order in orders if order.order_num and order.order_num not in self.owners]
        if not new:
            return
        # As a journal has them, whatever the vendor sent.
        numbers = {recordable(order.order_num) for order in new}
        references = {recordable(order.other_order_id) for order in new if order.other_order_id}
        references -= self.known
        find_orders = getattr(self.journalling.journal, "find_orders", None)
        if find_orders is not None:
            entries = await find_orders(account, order_nums=numbers, references=references)
        else:
            # A journal of the user's may lack it.
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
            # It is known by its number; whoever asks for the order again reads it whole.
            number = recordable(order.order_num)
            logger.warning("order %s was found, but not read: %s", number, error)
            kept = None
        else:
            kept = order
        claim(order, entry.other_order_id)
        if await self._settle(entry, EntryState.PLACED, order.order_num, kept):
            self.report.adopted.append(order)

    async def _drop(self, entry: JournalEntry) -> None:
        if self._is_ours_to_settle(entry):
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
    """Return all that is in replies as text, and whether that could be told; lets others run."""
    pieces: list[str] = []
    texts = chain.from_iterable(texts_of(reply.data) for reply in replies)
    try:
        for place, text in enumerate(texts, 1):
            pieces.append(text)
            if place % TEXTS_AT_ONCE == 0:
                await asyncio.sleep(0)
    except errors.ProtocolError:
        return "", False
    return "\n".join(pieces), True


async def _matching(entry: JournalEntry, shown: list[_Shown]) -> tuple[list[Order], list[Order]]:
    """Return the orders that are an entry's, and those that may be."""
    carrying = [order for one in shown for order in one.by_reference.get(entry.other_order_id, ())]
    exact = [order for order in carrying if _is_ours(order, entry)]
    near = [*carrying]
    for place, order in enumerate(chain.from_iterable(one.nameless for one in shown), 1):
        if _is_near(order, entry):
            near.append(order)
        if place % ORDERS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return _each_once(exact), _each_once(near)


def _each_once(orders: list[Order]) -> list[Order]:
    return [*{order.order_num: order for order in orders}.values()]


def _doubt(entry: JournalEntry, shown: _Shown) -> str:
    """Say why an order that was not found may be there all the same; empty if it may not."""
    if entry.other_order_id in shown.text:
        return "the search names its reference, in a way that can't be read"
    if shown.is_part:
        return "the search has more orders than it shows"
    return shown.doubt


def _doubt_of_clocks(ahead: float | None) -> str:
    """Say why times can't be compared with the vendor's; empty if they can.

    Args:
        ahead: By how many seconds this machine's clock is ahead of the vendor's; None if no
            reply told.
    """
    if ahead is None:
        return (
            "the vendor's replies name no date, so that this machine's clock can't be compared "
            "with its; find out otherwise, and settle the entry by hand with journal.settle()"
        )
    if abs(ahead) <= CLOCKS_APART.total_seconds():
        return ""
    apart, where = timedelta(seconds=round(abs(ahead))), "ahead of" if ahead > 0 else "behind"
    return (
        f"this machine's clock is {apart} {where} the vendor's, so that neither its age nor its "
        "day is known; set the clock right, and reconcile again"
    )


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
    """Tell whether a person should look at an order that carries nobody's reference."""
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
